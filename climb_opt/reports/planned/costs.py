"""What the trials of a recipe cost: each rung, the whole plan, and what a budget buys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from climb_opt.attributes import BASELINE
from climb_opt.errors import UserError
from climb_opt.ladder import Ladder
from climb_opt.plan import plan_of
from climb_opt.proxy.cost import DOMAINS, assumed_speed, described, gpu_hours
from climb_opt.proxy.cost import plan as steps_of
from climb_opt.proxy.going_on import check_going_on
from climb_opt.proxy.ladders import branching_flops, ladder_of, priced_ladder, with_methods
from climb_opt.recipes import ProxyRecipe, StudyRecipe
from climb_opt.study.asked import check_budget
from climb_opt.text import amount, counted, flops, hours_text, number, pipe_table, powers

CHEAPER = 4  # a recipe of one rung is shown one of a quarter of its tokens


@dataclass(frozen=True)
class RungCost:
    """One rung of a plan.

    Attributes:
        share: the cost of one trial in trials of the target.
        trials: planned, baselines at the target included; None where a sampler chooses.
        buys: trials that the budget pays for, were all of it spent here.
    """

    name: str
    proxy: str
    parameters: int | None
    tokens: int | None
    flops: float
    hours: float
    share: float
    trials: int | None
    buys: int


@dataclass(frozen=True)
class Costs:
    """The costs of a plan. FLOPs of training; hours are those of an H100, see `proxy/cost.py`.

    Attributes:
        total: FLOPs of the whole plan: rounds and baselines, or the recipe's budget.
        budget: FLOPs that were asked about; the total if none were.
        extra: whether the cheapest rung is none of the recipe's, but shown for what it would cost.
        before: FLOPs of a trunk, its branches and what checks them; 0 without.
        methods: FLOPs of each baseline of which a method sets the weights, what it trains and
            passes beside its proxy included.
    """

    rungs: tuple[RungCost, ...]
    baselines: int
    total: float
    budget: float
    hours: float
    extra: bool
    before: float = 0.0
    methods: Mapping[str, float] = field(default_factory=dict)

    @property
    def target_trials(self) -> float:
        """What the budget is in trials of the target."""
        return self.budget / self.rungs[-1].flops

    @property
    def named_trials(self) -> float:
        """What the baselines are in trials of the target."""
        plain = self.baselines - len(self.methods)
        return plain + sum(self.methods.values()) / self.rungs[-1].flops


def with_rungs(recipe: StudyRecipe) -> tuple[tuple[ProxyRecipe, ...], bool]:
    """The proxies of a recipe's ladder, and whether the cheapest was added; one where none can be.

    A recipe of one rung gets one of a quarter of its tokens below it.
    """
    if len(recipe.ladder) > 1:
        return recipe.ladder, False
    stated = recipe.proxy.flops
    cheaper = replace(
        recipe.proxy,
        tokens=recipe.proxy.tokens // CHEAPER,
        flops=None if stated is None else stated / CHEAPER,
    )
    try:
        if cheaper.command is None:
            steps_of(cheaper)
    except UserError:  # less than one step
        return (recipe.proxy,), False
    return (cheaper, recipe.proxy), True


def costs_of(
    recipe: StudyRecipe,
    vocabulary: int,
    budget: float | None,
    tokens: Mapping[str, float] | None = None,
) -> tuple[Costs, Ladder]:
    """The costs of a recipe, and its ladder.

    Args:
        budget: FLOPs to ask about; None: the plan's own.
        tokens: of each domain, which say how many branches there are; needed only for those.

    Raises:
        UserError: a rung whose cost nobody knows.
    """
    check_going_on(recipe)
    proxies, extra = (recipe.proxies, False) if recipe.branches else with_rungs(recipe)
    priced = priced_ladder(recipe, tokens or {}, vocabulary) if recipe.branches else None
    ladder = priced or ladder_of(proxies, vocabulary)
    ladder = with_methods(ladder, recipe, len(tokens or ()) or DOMAINS)
    before = branching_flops(recipe, ladder, tokens or {})
    target = ladder.rungs[-1]
    own = None if recipe.budget is None else recipe.budget.flops
    trials = _planned(recipe, ladder)
    if own is not None:
        total = own if budget is None else budget
    elif trials is None:  # at most: a sampler chooses the rung of each trial of the rounds
        total = (sum(recipe.rounds) + len(recipe.baselines)) * target.flops
    else:
        total = sum(n * r.flops for n, r in zip(trials, ladder.rungs, strict=True)) + before
    total += target.methods_beyond if own is None else 0.0
    asked = total if budget is None else budget
    what = [*(f"{name} of branches" for name in recipe.readouts), *map(described, proxies)]
    rungs = tuple(
        RungCost(
            rung.name,
            what[i],
            rung.parameters,
            rung.tokens,
            rung.flops,
            gpu_hours(rung.flops),
            float(ladder.shares[i]),
            None if trials is None else trials[i],
            int(asked / rung.flops * (1 + 1e-9)),
        )
        for i, rung in enumerate(ladder.rungs)
    )
    named, hours = len(recipe.baselines), gpu_hours(total)
    methods = {n.removeprefix(BASELINE): f for n, f in (target.methods or {}).items()}
    return Costs(rungs, named, total, asked, hours, extra, before, methods), ladder


def check_paid(recipe: StudyRecipe, ladder: Ladder, before: float, budget: float | None) -> None:
    """Raise unless the budget that is asked about, or else the recipe's, pays for the baselines and
    a trial of the target."""
    if budget is not None:
        check_budget(budget, recipe, ladder, before, "--flops")
    elif recipe.budget is not None:
        check_budget(recipe.budget.flops, recipe, ladder, before)


def costs_text(costs: Costs) -> list[str]:
    """The costs as lines of Markdown."""
    head = ["rung", "proxy", "parameters", "tokens", "FLOPs a trial", "target trials", "H100 hours"]
    rows = [
        [
            rung.name + (" (not in the recipe)" if costs.extra and not i else ""),
            rung.proxy,
            "-" if rung.parameters is None else amount(rung.parameters),
            "-" if rung.tokens is None else amount(rung.tokens),
            powers(rung.flops),
            number(rung.share, 3),
            hours_text(rung.hours),
            "chosen" if rung.trials is None else str(rung.trials),
            f"{rung.buys:,}" if rung.buys < 1e15 else powers(rung.buys),
        ]
        for i, rung in enumerate(costs.rungs)
    ]
    target = costs.rungs[-1]
    whole = costs.total / target.flops
    named = counted(costs.baselines, "baseline")
    lines = [
        *pipe_table([*head, "trials planned", "all spent here"], rows),
        "",
        f"The whole plan: {flops(costs.total)}, {number(whole, 4)} trials of the target, "
        f"{hours_text(costs.hours)} H100 hours at {assumed_speed()}; {named} at the target included"
        ". Evaluation and confirmation are not counted.",
    ]
    dearer = {n: cost for n, cost in costs.methods.items() if cost > target.flops}
    for name, cost in dearer.items():
        lines[-1] += (
            f" Baseline {name} takes {flops(cost)}, {number(cost / target.flops, 3)} trials of the "
            "target."
        )
    if costs.before:
        lines[-1] += (
            f" Trunk, branches and the mixtures that check them take {flops(costs.before)} of it, "
            f"{number(costs.before / target.flops, 4)} trials of the target."
        )
    if costs.budget != costs.total:
        lines += [
            "",
            f"A budget of {flops(costs.budget)} is {number(costs.target_trials, 4)} trials of the "
            f"target and {number(costs.budget / costs.total, 3)} times the plan.",
        ]
    return lines


# --- private -------------------------------------------------------------------------------------


def _planned(recipe: StudyRecipe, ladder: Ladder) -> list[int] | None:
    if recipe.budget is not None:
        return None
    plan, trials = plan_of(recipe, ladder), [0] * len(ladder)
    if not plan.rungs and (len(recipe.ladder) > 1 or recipe.readouts):
        return None
    for index, size in enumerate(plan.rounds):
        trials[plan.rungs[index] if plan.rungs else ladder.target] += size
    trials[ladder.target] += len(plan.named)
    return trials
