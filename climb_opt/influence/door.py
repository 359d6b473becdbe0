"""Measure the influence of a study's domains from Python: the recipe in, S and its mixture out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from climb_opt.gains.program import Solved, solve
from climb_opt.gains.table import Gains
from climb_opt.influence.options import InfluenceOptions
from climb_opt.influence.prior import NAME, AtPrior
from climb_opt.objective import ProxyObjective
from climb_opt.recipes import StudyRecipe, digest, read_study
from climb_opt.simplex import MixtureSpace
from climb_opt.storages import never
from climb_opt.strict import check_ranges
from climb_opt.study.corpora import corpus_for
from climb_opt.text import flops

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Influence:
    """What was measured, and the mixture that TiKMiX's program makes of it.

    `gains` holds S by target and domain; `gains.write(path)` keeps it for a search or a baseline.
    """

    gains: Gains
    space: MixtureSpace
    solved: Solved

    @property
    def mixture(self) -> dict[str, float]:
        """domain -> weight; with `mixtures` in the options TiKMiX-M's, else TiKMiX-D's."""
        if "searched" in self.gains.facts:
            return dict(self.gains.facts["searched"])
        return self.space.mixture(self.solved.weights)


def measure_influence(
    recipe: str | StudyRecipe,
    *,
    options: InfluenceOptions | None = None,
    directory: str | Path = "runs",
    corpus: str | Path | None = None,
    stop: Callable[[], bool] = never,
) -> Influence | None:
    """Train one proxy of a recipe on its prior, and measure what each domain does for its score.

    What it costs is logged before. On several ranks each calls it, and rank 0 gets the result.

    Args:
        recipe: a shipped recipe's name, the path of one, or the recipe.
        options: what is measured, and how; by default all of them as they are.
        directory: where its checkpoint goes, so that a stopped measurement goes on.
        corpus: where the corpus lies on this machine, if not as the recipe says.
        stop: whether to stop; asked between steps and gradients.

    Raises:
        UserError: anything wrong with the recipe, or a score without a gradient.
        TrialFailed: a loss or a gradient that is not finite.
        Interrupted: `stop()` said so; called again it goes on.

    >>> import climb_opt
    >>> found = climb_opt.measure_influence("tiny.yaml")
    >>> round(sum(found.mixture.values()), 6)
    1.0
    """
    study = read_study(recipe) if isinstance(recipe, str) else recipe
    study = replace(study, proxy=replace(study.proxy, reweight=None))  # the prior throughout
    options = check_ranges(options or InfluenceOptions(), "influence")
    folder = Path(directory) / NAME  # beside those of searches, whose trunk it goes on from
    proxies = ProxyObjective(corpus_for(study, corpus), study, directory=folder, stop=stop)
    at = AtPrior(proxies, options, study.seed, f"{NAME}-{digest(study)}")
    if not proxies.is_main:
        proxies.group.serve(lambda _: at.measure())
        return None
    trials = at.flops / at.trainer.flops
    log.info("influence: at most %s, those of %.2f trials.", flops(at.flops), trials)
    try:
        gains = proxies.group.run(lambda _: at.measure(), None)
    finally:
        proxies.close()
    rows, shares = gains.tasks(proxies.space.domains)
    solved = solve(proxies.space, rows, shares=shares, program=at.options.program)
    return Influence(gains, proxies.space, solved)
