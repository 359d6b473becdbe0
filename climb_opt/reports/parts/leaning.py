"""The section on the influence that a search began with: where it is from, and how it fared."""

from __future__ import annotations

import numpy as np

from climb_opt.reports.contents import Contents
from climb_opt.reports.section import Section, Words
from climb_opt.samplers.leaning import Leaning
from climb_opt.statistics import FEWEST_PAIRS, rank_interval, spearman
from climb_opt.study.carried import FILE, influence_of


def leaning(contents: Contents) -> Section | None:
    """How well the gains of domains rank the mixtures that were measured since."""
    snapshot = contents.snapshot
    given = None if snapshot.recipe is None else snapshot.recipe.sampler.options.get("influence")
    if given is None or len(snapshot.maximize) > 1:
        return None
    held = influence_of(snapshot.recipe) if snapshot.recipe is not None else None
    source = "gains that the recipe states"
    if held is not None:
        hessian = held.facts.get("hessian")
        source = f"{held.facts.get(FILE, 'a measurement')}{f' ({hessian})' if hessian else ''}"
    elif isinstance(given, str):
        return _section(Words(f"The search began with {given}."))
    weights = snapshot.judged.weights
    promised = weights @ Leaning(snapshot.space, given).gains
    began = f"The search began with {source}. "
    values = -snapshot.judged.values
    rho = spearman(promised, values) if len(weights) >= FEWEST_PAIRS else np.nan
    if not np.isfinite(rho):
        return _section(Words(began + "Too few results to judge it yet."))
    low, high = rank_interval(promised, values)
    words = Words(
        f"{began}It ranks the scores of the {len(weights)} mixtures measured with a correlation of "
        f"{rho:.2f} (90 %: {low:.2f} to {high:.2f}). Those that it made the search prefer are "
        "among them; the less they differ, the lower it is."
    )
    wrong = Words("It points the wrong way: measure it anew, or leave it out.", "caution")
    return _section(words, *([wrong] if high < 0 else []))


def _section(*words: Words) -> Section:
    return Section("influence", "Influence", list(words))
