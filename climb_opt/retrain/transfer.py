"""`climb_opt.transfer`: does the ranking of mixtures hold at another proxy size?

An ordinary study `<name>-transfer-<proxy>` beside the search, one named slot per chosen trial
("trial-17"), worked on by the same worker loop. Mixtures are the best ones, whose order decides,
and others spread over the ranking, without which a correlation says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from climb_opt import lookup, recipe_files, recipes
from climb_opt.attributes import COMPONENTS, RETRAINED, SLOT, TRANSFER
from climb_opt.commands import command
from climb_opt.errors import UserError, check_number
from climb_opt.history import History
from climb_opt.metrics import scores_of
from climb_opt.plan import Plan, Slot
from climb_opt.proxy.cost import described
from climb_opt.recipes import StudyRecipe
from climb_opt.retrain.sibling import (
    Runner,
    Training,
    at_target,
    open_sibling,
    other_recipe,
    train_beside,
)
from climb_opt.statistics import FEWEST_PAIRS, rank_interval, spearman
from climb_opt.study import read_recipe
from climb_opt.text import counted, pipe_table
from climb_opt.view import StudyView, all_trials, read_history
from climb_opt.workers import Work


@dataclass(frozen=True)
class Transfer:
    """Scores of the same mixtures at two sizes, lower is better: small (n,) and large (n,).

    `components` holds the same pair for every component that both sizes scored.
    """

    slots: tuple[str, ...]
    small: np.ndarray
    large: np.ndarray
    missing: int
    components: Mapping[str, tuple[np.ndarray, np.ndarray]]

    @property
    def rho(self) -> float:
        """Spearman rank correlation; nan with fewer than two pairs."""
        return spearman(self.small, self.large) if len(self.small) > 1 else float("nan")

    def interval(self) -> tuple[float, float] | None:
        """The 90 % interval of `rho`; None with too few pairs."""
        return None if len(self.small) < FEWEST_PAIRS else rank_interval(self.small, self.large)

    def best_kept(self) -> int | None:
        """Rank at the large size, from 1, of the mixture that was best at the small one."""
        if not len(self.small):
            return None
        return 1 + int(np.sum(self.large < self.large[int(np.argmin(self.small))]))


def transfer(
    study: optuna.Study,
    proxy: str,
    *,
    mixtures: int = 12,
    top: int = 6,
    seed: int | None = None,
    name: str | None = None,
    **training: Unpack[Training],
) -> Transfer:
    """Retrain mixtures of a search with another proxy: do the ranks agree?

    An ordinary study beside `study`; call it in as many processes and on as many machines as you
    like. Stopped, it is continued by the same call.

    Args:
        proxy: the other proxy: a shipped name or a path.
        mixtures: how many in all.
        top: how many of them are the best ones; the others are spread over the ranking.
        seed: of training (default: the search's).
        name: of the study (default: NAME-transfer-PROXY).
        training: `objective`, `corpus`, `directory`, `stop`, `on_trial` as of `climb_opt.work`.

    Raises:
        UserError: fewer than 4 mixtures, or more than the search has; several objectives; or the
            study beside it is another transfer.

    >>> import climb_opt
    >>> study = climb_opt.open_study("tiny.yaml", storage="runs/transfer.journal")
    >>> space = climb_opt.MixtureSpace(climb_opt.Corpus.load("corpora/tiny").tokens())
    >>> score = lambda trial: space.suggest(trial)["code"]
    >>> climb_opt.work(study, objective=score)
    >>> found = climb_opt.transfer(study, "62m", mixtures=4, top=2, objective=score)
    >>> round(found.rho, 3), found.best_kept()
    (1.0, 1)
    """
    recipe = transfer_recipe(read_recipe(study), proxy, seed)
    name = name or default_name(study, proxy)
    larger = begin(study, recipe, mixtures=mixtures, top=top, name=name)
    train_beside(larger, partial(work_on, study, larger), training)
    return transfer_of(study, larger)


def default_name(study: optuna.Study, proxy: str) -> str:
    """What the study is called in which `proxy` retrains."""
    return f"{study.study_name}-transfer-{Path(proxy).stem}"


def work_on(study: optuna.Study, larger: optuna.Study, runner: Runner) -> None:
    """Retrain until every slot is done."""
    runner(larger, orders(study, larger))


def choose(history: History, n: int, top: int, name: str) -> list[FrozenTrial]:
    """The `top` best trials of the search `name` and n - top spread evenly over the others' ranks.

    Of a mixture that was tried several times the first trial is meant: trained with one seed, its
    copies would agree with one another at any size.

    Raises:
        UserError: fewer than 4 mixtures asked for, or more than the search finished.
    """
    if n < FEWEST_PAIRS or not 0 <= top <= n:
        raise UserError(
            f"transfer: give at least {FEWEST_PAIRS} mixtures, top among them, but got {n} and "
            f"{top}."
        )
    if history.values.ndim > 1:
        raise UserError("transfer: the study has several objectives; a ranking needs one.")
    _, first = np.unique(np.round(history.weights, 6), axis=0, return_index=True)
    history, least = history.rows(np.sort(first)), max(FEWEST_PAIRS, top)
    if n > len(history):
        finished = counted(len(history), "mixture")
        fewer = f", and --mixtures {len(history)} takes those" if len(history) >= least else ""
        raise UserError(
            f"transfer: {n} mixtures asked for, but {finished} of {name!r} finished. "
            f"`{command('status', name)}` shows how far it is{fewer}."
        )
    order = np.argsort(history.values, kind="stable")
    rest = order[top:]
    spread = rest[np.linspace(0, len(rest) - 1, n - top).round().astype(int)] if n > top else []
    return [history.trials[int(i)] for i in [*order[:top], *spread]]


def begin(
    study: optuna.Study, recipe: StudyRecipe, *, mixtures: int, top: int, name: str
) -> optuna.Study:
    """Create the study that retrains by `recipe`, or join it; all else is as in `transfer`."""
    chosen = choose(read_history(study, StudyView(study).space), mixtures, top, study.study_name)
    wanted = {"of": study.study_name, "trials": [t.number for t in chosen]}
    opened = open_sibling(study, name, recipe, TRANSFER, wanted)
    stored = dict(opened.user_attrs[TRANSFER])
    different = other_recipe(opened, recipe) + recipe_files.difference(stored, wanted)
    if different:
        raise UserError(
            f"Study {name!r} is another transfer: {'; '.join(different[:3])}. "
            "Give --as NAME for a study of its own."
        )
    return opened


def transfer_recipe(recipe: StudyRecipe, proxy: str, seed: int | None = None) -> StudyRecipe:
    """The search's recipe with another proxy (a shipped name or a path), and no search."""
    larger = recipes.read_proxy(proxy)
    chosen = recipe.seed if seed is None else seed
    check_number("transfer: the seed", chosen, 0, lookup.MOST_SEED)
    one = at_target(recipe, proxy=larger, rounds=(1,), verify=0, baselines=(), pruner=None)
    return replace(one, seed=chosen)


def orders(study: optuna.Study, larger: optuna.Study) -> Work:
    """The mixture of every trial that `larger` retrains, in its slot."""
    space, trials = StudyView(study).space, {t.number: t for t in all_trials(study)}
    mixtures: dict[Slot, dict[str, float]] = {}
    for number in larger.user_attrs[TRANSFER]["trials"]:
        weights = space.weights_of(trials[number])
        assert weights is not None  # chosen from the history, which holds mixtures only
        mixtures[f"{RETRAINED}{number}"] = space.mixture(weights)
    return Work(Plan((), tuple(map(str, mixtures))), mixtures)


def transfer_of(study: optuna.Study, larger: optuna.Study) -> Transfer:
    """What is known so far: pairs of finished trials, oriented so that lower is better."""
    sign = StudyView(study).sign
    small = {f"{RETRAINED}{t.number}": t for t in all_trials(study)}
    pairs = [
        (str(t.user_attrs[SLOT]), small[str(t.user_attrs[SLOT])], t)
        for t in all_trials(larger)
        if t.state == TrialState.COMPLETE and t.user_attrs.get(SLOT) in small
    ]
    planned = len(larger.user_attrs.get(TRANSFER, {}).get("trials", []))
    return Transfer(
        slots=tuple(slot for slot, _, _ in pairs),
        small=np.array([sign * s.values[0] for _, s, _ in pairs]),
        large=np.array([sign * t.values[0] for _, _, t in pairs]),
        missing=planned - len(pairs),
        components=_components([(s, t) for _, s, t in pairs]),
    )


def as_markdown(found: Transfer, small: StudyRecipe, large: StudyRecipe) -> str:
    """The result as text."""
    proxies = f"Proxies of {described(small.proxy)} and {described(large.proxy)}"
    missing = f", {found.missing} missing" if found.missing else ""
    lines = [f"{proxies}, {len(found.small)} mixtures{missing}.", ""]
    parts = sorted(found.components.items())
    named = [("all", found), *((name, replace(found, small=a, large=b)) for name, (a, b) in parts)]
    rows = [_row(name, of) for name, of in named]
    lines += pipe_table(["score", "rank correlation", "90 % interval"], rows)
    rank = found.best_kept()
    if rank is not None:
        best = f"The best with the search's proxy is number {rank} of {len(found.large)} with the"
        lines += ["", f"{best} other."]
    return "\n".join([*lines, ""])


# --- private -----------------------------------------------------------------------------------


def _components(
    pairs: list[tuple[FrozenTrial, FrozenTrial]],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    told = [[scores_of(t.user_attrs.get(COMPONENTS, {})) for t in pair] for pair in pairs]
    names = [{*scores} for pair in told for scores in pair]
    found = {}
    for name in sorted(set.intersection(*names)) if names else ():
        small, large = np.array([[s[name] for s in pair] for pair in told], dtype=float).T
        found[name] = (small, large)
    return found


def _row(name: str, found: Transfer) -> list[str]:
    interval = found.interval()
    shown = f"[{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "too few mixtures"
    return [name, f"{found.rho:.3f}", shown]
