"""What a trial of a proxy costs, known before it is trained.

FLOPs of training on a token, forward and backward, are 6 N + 6 L h T:

    N   parameters that a token is multiplied by: all but tables of embeddings, which are looked
        up; the output projection counts, tied or not
    L   layers of attention, h their width (heads x width of a head), T tokens a sequence

It is the formula of PaLM (Chowdhery et al. 2022, appendix B: 6 N + 12 L h T) with half of its
second term: a token attends to those before it, on average to half of the sequence, and causal
kernels compute no more. A forward pass alone is a third of it. Evaluation, the optimiser's own
steps and the reading of data are left out.
Of a mixture of experts all experts are counted; `proxy.flops` states another figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from climb_opt.choices import Choice
from climb_opt.errors import UserError
from climb_opt.proxy.reweight.base import Extra, Sizes, extra_of
from climb_opt.proxy_recipe import ModelRecipe, ProxyRecipe

PEAK = 989e12  # FLOP/s of an H100 SXM in bf16, dense (NVIDIA data sheet)
UTILISATION = 0.4  # assumed; small proxies reach less
VOCABULARY = 32_000  # Llama-2's, where the corpus is not on this machine
DOMAINS = 21  # CLIMB's, likewise
VOCABULARY_MULTIPLE = 64  # odd vocabulary sizes slow the projection on a GPU; nanochat pads alike


@dataclass(frozen=True)
class Size:
    """How large a model is. `multiplied`, `layers` and `width` are N, L and h of the formula."""

    parameters: int
    body: int  # parameters without token embeddings, input and output
    multiplied: int
    layers: int
    width: int

    def attention_flops(self, sequence: int) -> float:
        """FLOPs of a token's attention, forward and backward."""
        return 6.0 * self.layers * self.width * sequence

    def token_flops(self, sequence: int) -> float:
        """FLOPs of training on one token."""
        return 6.0 * self.multiplied + self.attention_flops(sequence)


@dataclass(frozen=True)
class Cost:
    """What one trial takes. Of a command `flops` are as it states, and nothing is known of its
    model."""

    tokens: int  # trained on: whole steps
    flops: float | None
    parameters: int | None


def gpu_hours(flops: float) -> float:
    """H100 hours at the assumed utilisation."""
    return flops / (PEAK * UTILISATION) / 3600


def assumed_speed() -> str:
    """What `gpu_hours` assumes, in words."""
    speed = f"{PEAK / 1e12:.0f} TFLOP/s x {100 * UTILISATION:.0f} %"
    return f"{speed} (assumed; proxies below 100M parameters reach less)"


def padded(vocabulary: int) -> int:
    """Rows of the token embeddings of a model built from a shape."""
    return -(-vocabulary // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def shape_size(model: ModelRecipe, vocabulary: int) -> Size:
    """The size of the model that a shape and a corpus's vocabulary give; nothing is allocated."""
    h = model.hidden
    kv = h * (model.kv_heads or model.heads) // model.heads
    layer = 2 * h * h + 2 * h * kv + 3 * h * model.mlp + 2 * h
    body, table = model.layers * layer + h, padded(vocabulary) * h
    total = body + (table if model.tied else 2 * table)
    return Size(total, body, body + table, model.layers, h)


def trial_cost(recipe: ProxyRecipe, size: Size | None, domains: int = DOMAINS) -> Cost:
    """The cost of one trial of a recipe whose model is of that size; None: a command's.

    What a method that sets weights trains and passes beside the proxy is part of it.

    Raises:
        UserError: it trains on less than one step; no such method.
    """
    if recipe.command is not None or size is None:
        return Cost(recipe.tokens, recipe.flops, None)
    tokens, beside = trained_tokens(recipe), _beside(recipe, domains)
    flops = tokens * overhead(recipe, domains) * size.token_flops(recipe.sequence)
    tokens += round(beside.trained)
    return Cost(tokens, flops if recipe.flops is None else recipe.flops, size.parameters)


def overhead(recipe: ProxyRecipe, domains: int = DOMAINS) -> float:
    """The FLOPs of a trial in those of the training alone: 1, but for what a method needs."""
    if recipe.reweight is None:
        return 1.0
    beside = _beside(recipe, domains)
    return 1.0 + (beside.trained + beside.passed / 3) / trained_tokens(recipe)


def _beside(recipe: ProxyRecipe, domains: int) -> Extra:
    if recipe.reweight is None:
        return Extra()
    batch, steps = plan(recipe)
    return extra_of(recipe.reweight, Sizes(domains, steps, batch * recipe.sequence))


def by_method(proxy: ProxyRecipe, method: Choice, domains: int = DOMAINS) -> ProxyRecipe:
    """The proxy of a baseline of which a method sets the weights: the target's, from its first
    step, its own FLOPs counted where the target's are stated."""
    own = replace(proxy, reweight=method, go_on=False)
    if proxy.flops is None:
        return own
    return replace(own, flops=proxy.flops * overhead(own, domains) / overhead(proxy, domains))


def trained_tokens(recipe: ProxyRecipe) -> int:
    """Tokens that one trial trains on: whole steps, of a command as many as it is told.

    Raises:
        UserError: less than one step.
    """
    if recipe.command is not None:
        return recipe.tokens
    batch, steps = plan(recipe)
    return batch * steps * recipe.sequence


def share_of(proxies: Sequence[ProxyRecipe], number: int) -> float:
    """The share of each domain that a rung reads, so as to repeat it as often as the last does; 1
    where it trains on more, for no pool is larger than the corpus."""
    return min(trained_tokens(proxies[number]) / trained_tokens(proxies[-1]), 1.0)


def described(recipe: ProxyRecipe) -> str:
    """A proxy in a few words: "12 x 768 on 400,000 tokens"."""
    shape = recipe.model
    what = recipe.command or shape.checkpoint or f"{shape.layers} x {shape.hidden}"
    return f"{what} on {recipe.tokens:,} tokens"


def place_of(number: int, proxies: Sequence[ProxyRecipe]) -> str:
    """Where a recipe says what this rung is; of one that has no ladder its proxy."""
    if len(proxies) == 1:
        return "study.proxy"
    return f"study.ladder[{number}] ({described(proxies[number])})"


def plan(recipe: ProxyRecipe, world: int = 1) -> tuple[int, int]:
    """Sequences of a step and steps of a trial.

    Raises:
        UserError: not one whole step, or fewer sequences in a step than ranks.
    """
    batch = recipe.batch_tokens // recipe.sequence
    if batch < world:
        raise UserError(
            f"proxy.batch_tokens ({recipe.batch_tokens}) holds {batch} sequences of "
            f"{recipe.sequence} tokens, fewer than the {world} processes; raise it to at least "
            f"{world * recipe.sequence}."
        )
    steps = recipe.tokens // (batch * recipe.sequence)
    if steps < 1:
        raise UserError(
            f"proxy.tokens ({recipe.tokens}) is less than one step of {batch * recipe.sequence} "
            "tokens; train on more tokens or in smaller batches."
        )
    return batch, steps
