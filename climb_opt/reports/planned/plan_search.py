"""`climb_opt.plan_search`: what a recipe's search would cost and find, before it runs."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from climb_opt.errors import UserError, check_number
from climb_opt.ladder.branches.before import Before
from climb_opt.ladder.recipe import rung_count
from climb_opt.plan import space_for
from climb_opt.progress import progress, quieter
from climb_opt.proxy.cost import VOCABULARY
from climb_opt.recipes import StudyRecipe, read_study
from climb_opt.reports.planned.advice import advice_of, evidence_text, regret_text
from climb_opt.reports.planned.costs import Costs, check_paid, costs_of, costs_text
from climb_opt.reports.planned.measured import Evidence, Given, evidence_for
from climb_opt.reports.planned.regret import Regret, Setting, emulated, searches
from climb_opt.shards import Corpus
from climb_opt.simplex import MixtureSpace
from climb_opt.study import open_study
from climb_opt.study.asked import check_choices
from climb_opt.view import StudyView

DOMAINS = 21  # assumed where the corpus is not on this machine: CLIMB's clusters
SEEDS = 3


@dataclass(frozen=True)
class SearchPlan:
    """What a search would cost and find.

    Attributes:
        costs: of each rung and of the whole.
        evidence: the noise and rank correlations that were emulated, and where they are from.
        regrets: of each arm at four budgets; empty where nothing was emulated.
        advice: one line; "" where nothing was emulated.
        text: all of it as Markdown.
    """

    name: str
    costs: Costs
    evidence: Evidence
    regrets: tuple[Regret, ...]
    advice: str
    text: str

    def __str__(self) -> str:
        return self.text

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """As printed, where IPython shows it: as the last line of a notebook's cell."""
        printer.text(self.text)


def plan_search(
    recipe: StudyRecipe | str,
    *,
    flops: float | None = None,
    source: optuna.Study | str | None = None,
    storage: str | Path | BaseStorage | None = None,
    overrides: Sequence[str] = (),
    noise: float | None = None,
    correlation: float | Sequence[float] | None = None,
    seeds: int = SEEDS,
    emulate: bool = True,
) -> SearchPlan:
    """What a recipe's search would cost, what a budget buys, and what regret to expect of it.

    The regrets are of searches emulated on mixing laws with as many domains and the same costs of
    rungs; they say which way to spend a budget, not what a corpus will give.

    Args:
        recipe: a recipe; the path or shipped name of one.
        flops: the budget asked about; the recipe's own by default.
        source: a study, or its name, whose measured noise and rank correlations are used.
        storage: of that name; see `storages.open_storage`.
        overrides: `key.sub=value`, applied to the recipe.
        noise: of one run, in spreads of the target's scores over typical mixtures; by default what
            the study measured, else .1.
        correlation: rank correlation of the cheapest rung with the target, or of each rung below
            it; by default what the study measured, else .8.
        seeds: emulated searches of each kind and budget.
        emulate: False for costs alone.

    Raises:
        UserError: no such recipe, name, option or study, a budget below one trial of the target of
            a corpus that is here, a rung whose cost nobody knows, a noise or correlation that
            cannot be.

    >>> import climb_opt
    >>> plan = climb_opt.plan_search("tiny.yaml", emulate=False)
    >>> [rung.trials for rung in plan.costs.rungs], plan.costs.target_trials
    ([6], 6.0)
    """
    check_number("--seeds", seeds)
    if flops is not None and not (math.isfinite(flops) and flops > 0):
        raise UserError(f"--flops must be a number of FLOPs such as 3e19, but is {flops}.")
    name = Path(recipe).stem if isinstance(recipe, str) else "a recipe"
    recipe = read_study(recipe, overrides) if isinstance(recipe, str) else recipe
    check_choices(recipe)
    if rung_count(recipe) == 1:  # rounds that name it would number it as a rung that is added
        recipe = replace(recipe, rungs=())
    if isinstance(source, str):
        source = open_study(study_name=source, storage=storage, create=False)
    corpus, notes = _here(recipe)
    vocabulary = VOCABULARY if corpus is None else corpus.vocab_size
    many = dict.fromkeys(map(str, range(DOMAINS)), 1e18)
    tokens = many if corpus is None else corpus.tokens()
    costs, ladder = costs_of(recipe, vocabulary, flops, tokens)
    try:
        check_paid(recipe, ladder, costs.before, flops)
    except UserError as error:
        if corpus is not None:
            raise
        notes += ["", f"With what is assumed, {error}"]
    notes += [line for note in Before.of(recipe, tokens, ()).notes for line in ("", f"{note}.")]
    if recipe.branches is not None and emulate:
        notes += ["", "Searches from a trunk are not emulated: no law says how branches rank."]
        emulate = False
    given = tuple(correlation) if isinstance(correlation, Sequence) else correlation
    evidence = evidence_for(Given(noise, given), source, ladder.target)
    setting = Setting(_space(recipe, corpus, source), ladder, evidence, seeds)
    found: tuple[Regret, ...] = ()
    lines = [f"# Plan of {name}", "", *costs_text(costs), *notes]
    advice = ""
    if emulate:
        asked = costs.target_trials - costs.named_trials
        count = searches(recipe, setting, asked)
        bars = progress(count, "emulated searches", "run", brief=True)
        with bars as bar, quieter(logging.ERROR, "climb_opt"):
            found = emulated(recipe, setting, asked, lambda: bar.update(1))
        advice = advice_of(found, ladder)
        lines += ["", *regret_text(found, setting, asked), "", advice]
    elif source is not None:
        lines += ["", f"Not emulated: {evidence_text(evidence)}."]
    return SearchPlan(name, costs, evidence, found, advice, "\n".join([*lines, ""]))


# --- private -------------------------------------------------------------------------------------


def _here(recipe: StudyRecipe) -> tuple[Corpus | None, list[str]]:
    try:
        return Corpus.load(recipe.corpus_folder), []
    except UserError as error:  # planned for another machine
        assumed = f"a vocabulary of {VOCABULARY:,} and {DOMAINS} domains are assumed"
        return None, ["", f"Not on this machine, so that {assumed}: {error}"]


def _space(recipe: StudyRecipe, corpus: Corpus | None, source: optuna.Study | None) -> MixtureSpace:
    if corpus is not None:
        return space_for(corpus.tokens(), recipe)
    if source is not None and StudyView(source).prior_known:
        return StudyView(source).space
    width = len(str(DOMAINS - 1))
    return MixtureSpace({f"d{i:0{width}d}": 1.0 / (i + 1) for i in range(DOMAINS)})
