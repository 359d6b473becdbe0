"""The proxy: a Hugging Face causal LM, built from a shape or continued from a checkpoint.

What a search trains is a stock `transformers` model, so every tool people have opens it. Weights
are kept in float32; lower precision is the trainer's business (autocast).
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging as transformers_logging

from climb_opt.errors import UserError, first_line
from climb_opt.proxy import checkpoint
from climb_opt.proxy.cost import Size, padded
from climb_opt.reading import decode
from climb_opt.recipes import ModelRecipe
from climb_opt.shards import Corpus
from climb_opt.streams import encoding_of
from climb_opt.strict import check_ranges
from climb_opt.tokenizer import corpus_tokenizer

log = logging.getLogger(__name__)

transformers_logging.disable_progress_bar()  # of models that are written and read in an instant


def configure(recipe: ModelRecipe, corpus: Corpus, sequence: int) -> Any:
    """The model's `transformers` config, checked against the corpus. Trains nothing.

    Raises:
        UserError: a shape that cannot be built, a checkpoint that cannot be read, or one whose
            vocabulary or context does not fit the corpus.
    """
    if recipe.checkpoint is not None:
        return _checkpoint_config(recipe.checkpoint, corpus, sequence)
    _check_shape(recipe)
    return transformers.LlamaConfig(
        vocab_size=padded(corpus.vocab_size),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads or recipe.heads,
        max_position_embeddings=sequence,
        tie_word_embeddings=recipe.tied,
        bos_token_id=corpus.eos,
        eos_token_id=corpus.eos,
        use_cache=False,
    )


def read_config(name: str) -> Any:
    """The `transformers` config of a checkpoint, a folder or a hub name.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return _loaded(transformers.AutoConfig, name)
    except Exception as error:  # a file of anybody's, and each library has errors of its own
        raise _unreadable(name, error) from None


def build(recipe: ModelRecipe, config: Any, *, seed: int) -> Any:
    """The model of a trial, in float32 on the CPU: drawn from `seed`, or the checkpoint's."""
    if recipe.checkpoint is not None:
        return _loaded(transformers.AutoModelForCausalLM, recipe.checkpoint, dtype=torch.float32)
    torch.manual_seed(seed)
    return transformers.LlamaForCausalLM(config)


def load(folder: Path) -> Any:
    """A saved model in float32, ready to be scored."""
    return _loaded(transformers.AutoModelForCausalLM, folder, dtype=torch.float32).eval()


def count_parameters(model: Any) -> dict[str, int]:
    """Parameters in all, and without the token embeddings (input and output)."""
    total = sum(p.numel() for p in model.parameters())
    both = (model.get_input_embeddings(), model.get_output_embeddings())
    tables = {id(t.weight): t.weight.numel() for t in both if t is not None}  # one where they tie
    return {"parameters": total, "parameters_without_embeddings": total - sum(tables.values())}


def size_of(config: Any) -> Size:
    """The size of a config's model, without allocating it."""
    with torch.device("meta"):
        network = transformers.AutoModelForCausalLM.from_config(config)
    counts = count_parameters(network)
    tables = {m.weight for m in network.modules() if isinstance(m, torch.nn.Embedding)}
    projection = network.get_output_embeddings()
    if projection is not None:
        tables.discard(projection.weight)  # tied: looked up, and multiplied by
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None) or 0  # none: no attention
    width = getattr(text, "head_dim", None) or text.hidden_size // max(heads, 1)
    return Size(
        counts["parameters"],
        counts["parameters_without_embeddings"],
        counts["parameters"] - sum(table.numel() for table in tables),
        text.num_hidden_layers,
        heads * width,
    )


def save(model: Any, corpus: Corpus, folder: Path) -> None:
    """Write model and tokenizer so that `AutoModelForCausalLM` and lm-eval open them; atomic."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model.save_pretrained(partial)
    tokenizer(corpus).save_pretrained(partial)
    for file in partial.iterdir():
        checkpoint.sync(file)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def tokenizer(corpus: Corpus) -> Any:
    """The corpus's tokenizer as `transformers` wants it."""
    raw = corpus_tokenizer(corpus.tokenizer_file, corpus.eos)
    end = raw.id_to_token(corpus.eos)
    # A text that spells a special token holds its letters, as in the corpus.
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=end, bos_token=end, split_special_tokens=True
    )


def _check_shape(recipe: ModelRecipe) -> None:
    kv_heads = recipe.kv_heads or recipe.heads
    check_ranges(recipe, "proxy.model")
    if recipe.hidden % recipe.heads or recipe.hidden // recipe.heads % 2:
        raise UserError(
            f"proxy.model: hidden ({recipe.hidden}) must be an even multiple of heads "
            f"({recipe.heads}), because rotary embeddings turn pairs of coordinates."
        )
    if recipe.heads % kv_heads:
        raise UserError(
            f"proxy.model: heads ({recipe.heads}) must be a multiple of kv_heads ({kv_heads})."
        )


def _checkpoint_config(name: str, corpus: Corpus, sequence: int) -> Any:
    config = read_config(name)
    known = _whole(config, "vocab_size", name) or 0
    context = _whole(config, "max_position_embeddings", name)
    if known < corpus.vocab_size:
        raise UserError(
            f"Checkpoint {name!r} knows {known} tokens, but corpus {corpus.name!r} was tokenised "
            f"with {corpus.vocab_size}. Build the corpus with the checkpoint's tokenizer."
        )
    _check_tokenizer(name, corpus)
    if context is not None and context < sequence:
        raise UserError(
            f"Checkpoint {name!r} reads at most {context} tokens, but proxy.sequence is {sequence}."
        )
    _check_weights(name, known)
    return config


def _whole(config: Any, key: str, name: str) -> int | None:
    """A count that a config may hold; older transformers take text for one."""
    value = getattr(config, key, None)
    if value is None or isinstance(value, int):
        return value
    raise _unreadable(name, ValueError(f"{key} must be a whole number, but is {value!r}"))


def _loaded(kind: Any, name: str | Path, **options: Any) -> Any:
    """`kind.from_pretrained`, which takes no byte-order mark, of a folder whose JSON may."""
    folder = Path(name).absolute()
    read = {f: f.read_bytes() for f in folder.glob("*.json")} if folder.is_dir() else {}
    marked = {f: decode(data) for f, data in read.items() if encoding_of(data[:4])[1]}
    if not marked:
        return kind.from_pretrained(name, **options)
    with tempfile.TemporaryDirectory() as without:
        for file in folder.iterdir():
            if file in marked:
                Path(without, file.name).write_text(marked[file], encoding="utf-8")
            else:
                Path(without, file.name).symlink_to(file)
        return kind.from_pretrained(without, **options)


def _unreadable(name: str, error: Exception) -> UserError:
    detail = " ".join(str(error).split()) if "\n" in str(error) else first_line(error)
    return UserError(f"proxy.model.checkpoint {name!r} cannot be read: {detail[:300]}")


def _check_tokenizer(name: str, corpus: Corpus) -> None:
    try:
        tokenizer = _loaded(transformers.AutoTokenizer, name)
        theirs = tokenizer.get_vocab()
    except Exception:  # transformers reports a missing tokenizer in many ways
        theirs = {}
    # Where files are missing some families are given one of special tokens alone.
    if len(theirs) <= 1 or len(theirs.keys() - tokenizer.get_added_vocab().keys()) <= 1:
        log.warning("Checkpoint %r has no tokenizer; only its vocabulary's size was checked.", name)
        return
    ours = corpus_tokenizer(corpus.tokenizer_file, corpus.eos).get_vocab()
    different = [token for token in sorted(ours, key=ours.get) if theirs.get(token) != ours[token]]
    if different:
        raise UserError(
            f"Checkpoint {name!r} has another tokenizer than corpus {corpus.name!r}: "
            f"{len(different)} of {len(ours)} tokens differ, {different[0]!r} first. Build the "
            "corpus with the checkpoint's tokenizer."
        )


def _check_weights(name: str, tokens: int) -> None:
    """Whether all weights are there, and no token sees those after it."""
    try:
        auto = transformers.AutoModelForCausalLM
        model, found = _loaded(auto, name, dtype=torch.float32, output_loading_info=True)
        text = torch.tensor([[0, 1, 2], [0, 1, 3]]) % tokens
        with torch.inference_mode():
            first, second = model.eval()(input_ids=text).logits[:, 0]
    except Exception as error:
        raise _unreadable(name, error) from None
    missing = sorted(found["missing_keys"])
    if missing:
        raise UserError(
            f"Checkpoint {name!r} lacks {len(missing)} of its model's weights, {missing[0]!r} "
            "first: they would be drawn at random."
        )
    if not torch.allclose(first, second, atol=1e-5):
        raise UserError(
            f"Checkpoint {name!r} ({type(model).__name__}) is no causal language model: what it "
            "says of a token depends on those after it."
        )
