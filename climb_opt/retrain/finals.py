"""What is retrained: finalists and baselines, stored in the confirm study that workers join."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import optuna

from climb_opt.attributes import CONFIRM
from climb_opt.errors import UserError, check_number
from climb_opt.measures import apart
from climb_opt.recipes import StudyRecipe
from climb_opt.retrain.paired import LEVEL, SAME
from climb_opt.retrain.sibling import Mixture, open_sibling, other_recipe

SUFFIX = "-confirm"
FIRST_LOOK = 3  # seeds before a race can say anything: with two, Student's interval is boundless


@dataclass(frozen=True)
class Finals:
    """What is retrained, and how often.

    Args:
        of: the study whose recommendation is tested.
        mixtures: name -> mixture, finalists first.
        finalists: the recommended mixtures; the first is the one to report.
        references: the baselines.
        seeds: fresh seeds, at most, for each mixture.
        first_seed: the seed of "seed-1"; the others follow.
        budget: training runs at most, for a race; None: every mixture gets every seed.
        unit: what the score measures.
        methods: references of which a method sets the weights again; `mixtures` holds the mean of
            the path that each took in the search.
        twins: reference -> the finalist that is the same mixture and is trained for both.
    """

    of: str
    mixtures: Mapping[str, Mixture]
    finalists: tuple[str, ...]
    references: tuple[str, ...]
    seeds: int
    first_seed: int
    budget: int | None = None
    unit: str = "score"
    methods: tuple[str, ...] = ()
    twins: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_number("--seeds", self.seeds)
        fewest = self.first_look * len(self.trained)
        if self.budget is not None and self.budget < fewest:
            raise UserError(
                f"--budget {self.budget} is too small: {len(self.trained)} mixtures need "
                f"{self.first_look} seeds each, so {fewest} runs."
            )

    @property
    def trained(self) -> dict[str, Mixture]:
        """The mixtures that get trials of their own."""
        return {name: m for name, m in self.mixtures.items() if name not in self.twins}

    @property
    def first_look(self) -> int:
        """Seeds that every mixture gets before a race looks at the scores."""
        return min(FIRST_LOOK, self.seeds)

    @property
    def looks(self) -> int:
        """How often a race may stop."""
        return 1 if self.budget is None else self.seeds - self.first_look + 1

    @property
    def labels(self) -> dict[str, int]:
        """The training seed of each of "seed-1", "seed-2", ...; the label ends a slot's name."""
        return {f"seed-{k + 1}": self.first_seed + k for k in range(self.seeds)}


def race_seeds(budget: int, finalists: int, references: int) -> int:
    """Seeds at most with which a race may spend its budget: all mixtures get the first look, then
    one finalist and the references go on."""
    left = budget - FIRST_LOOK * (finalists + references)
    return FIRST_LOOK + max(left, 0) // (1 + references)


def choose(
    recommended: Mapping[str, Mixture], baselines: Mapping[str, Mixture]
) -> tuple[dict[str, Mixture], tuple[str, ...], tuple[str, ...]]:
    """Mixtures to retrain, finalists' names, references' names; no finalist is another's mixture.

    Args:
        recommended: name -> mixture; the first is kept whatever it equals.
        baselines: name -> mixture.
    """
    mixtures: dict[str, Mixture] = {}
    for name, mixture in recommended.items():
        if twin(mixture, mixtures) is None:
            mixtures[name] = mixture
    finalists = tuple(mixtures)
    references = tuple(n for n in baselines if n not in mixtures)
    mixtures.update({name: baselines[name] for name in references})
    return mixtures, finalists, references


def twin(mixture: Mixture, others: Mapping[str, Mixture]) -> str | None:
    """The name of the first of `others` that is the same mixture, if any."""
    return next((name for name, other in others.items() if apart(mixture, other) < SAME), None)


def open_confirmation(
    study: optuna.Study, finals: Finals, recipe: StudyRecipe | None, *, name: str | None = None
) -> tuple[optuna.Study, Finals]:
    """Create or join the confirm study of `study`.

    Returns its study and the finals as stored: a worker that joins takes the mixtures of the one
    that created it. Seeds and budget may grow from one call to the next.

    Raises:
        UserError: it confirms other mixtures or another recipe, because the search went on; or it
            is no confirm study.
    """
    name = name or f"{study.study_name}{SUFFIX}"
    created = open_sibling(study, name, recipe, CONFIRM, _write(finals))
    stored = _read(created.user_attrs[CONFIRM])
    joined = _join(created, stored, finals, recipe)
    if joined != stored:
        created.set_user_attr(CONFIRM, _write(joined))
    return created, joined


def read_finals(study: optuna.Study) -> Finals:
    """What a confirm study retrains."""
    stored = study.user_attrs.get(CONFIRM)
    if stored is None:
        raise UserError(f"Study {study.study_name!r} is not a confirm study.")
    return _read(stored)


def _write(finals: Finals) -> dict[str, Any]:
    # The error level of each interval is split among finalists and looks.
    return {**asdict(finals), "level": LEVEL / (max(1, len(finals.finalists)) * finals.looks)}


def _read(stored: Mapping[str, Any]) -> Finals:
    data = {k: v for k, v in stored.items() if k != "level"}
    for name in ("finalists", "references", "methods"):
        data[name] = tuple(data.get(name, ()))
    return Finals(**data)


def _join(study: optuna.Study, stored: Finals, new: Finals, recipe: StudyRecipe | None) -> Finals:
    same = stored.finalists == new.finalists and stored.references == new.references
    far = [n for n in stored.mixtures if apart(stored.mixtures[n], new.mixtures.get(n, {})) > SAME]
    remedy = "Give --as NAME to confirm the new ones in a study of their own."
    if not same or far:
        what = f"{far[0]!r} differs" if far else f"it has {', '.join(stored.mixtures)}"
        raise UserError(
            f"Study {study.study_name!r} confirms other mixtures ({what}); the search or the "
            f"options changed since. {remedy}"
        )
    if other_recipe(study, recipe):
        raise UserError(
            f"Study {study.study_name!r} was made with another recipe or proxy. {remedy}"
        )
    return replace(stored, seeds=max(stored.seeds, new.seeds), budget=new.budget)
