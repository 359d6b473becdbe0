"""What one run left behind, and where it is kept: one JSON file a run, written atomically.

The files are the memory of an ablation: a run whose file exists with the same recipe is not run
again, and runs of other recipes in the same folder have files of their own. Values are oriented so
that lower is better, whatever the study's direction.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt import recipes
from climb_opt.ablation.recipe.recipe import LIVE
from climb_opt.ablation.recipe.resolve import Run
from climb_opt.ablation.run.contents import contents
from climb_opt.files import check_folder, take_flock, write_whole
from climb_opt.recipes import Choice
from climb_opt.strict import build
from climb_opt.text import walked

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """One finished run.

    `final` is the value of the mixture it ended with: true and noise-free where the objective
    knows (an emulator), else its score on the test of the recipe; None when the run gave no
    mixture, with `error` saying why. `best` is the same for the best measurement, `auto` for the
    mixture that our own rule picks from the same trials (emulated runs only). `curve` holds per
    trial the value of the best measurement so far, `ranks` per round after the first the rank
    correlation of what the predictor foresaw with what was measured (None: not defined).
    """

    setting: str
    arm: str
    seed: int
    recipe: str  # digest of the run's recipe and options
    mixture: dict[str, float] | None
    final: float | None
    best: float | None = None
    auto: float | None = None
    curve: tuple[float | None, ...] = ()
    ranks: tuple[float | None, ...] = ()
    rounds: tuple[int, ...] = ()
    trials: int = 0
    failed: int = 0
    tokens: float = 0.0
    flops: float = 0.0  # of all trials, where they state them or have rungs
    seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)  # of the final mixture, by component
    mixtures: str = ""  # digest of every mixture proposed, in order: equal in a rerun
    note: str = ""
    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    promises: dict[str, dict[str, float | None]] = field(default_factory=dict)  # by trials
    contents: dict[str, str] = field(default_factory=dict)  # name of what was read -> its digest

    @classmethod
    def of(cls, run: Run, **found: Any) -> RunResult:
        """What was found by this run; without a mixture unless it is given."""
        usual: dict[str, Any] = {"mixture": None, "final": None, "recipe": run_digest(run)}
        return cls(setting=run.setting, arm=run.arm.name, seed=run.seed, **{**usual, **found})

    def outdated(self, run: Run) -> str | None:
        """What the run reads and this result knew otherwise; what is not there is not compared."""
        now = contents(run)
        changed = (name for name, was in self.contents.items() if now.get(name, was) != was)
        return next(changed, None)


def run_digest(run: Run) -> str:
    """A short name for everything that decides a run's outcome; where tables lie does not."""
    evaluators = tuple(_placeless(choice) for choice in run.arm.study.evaluators)
    study = dataclasses.replace(run.arm.study, evaluators=evaluators)
    stated = json.loads(recipes.to_json(study))
    if run.objective.name != LIVE:  # nothing is trained, and version 0.1.0 knew no such key
        del stated["seeds"]
    parts = [json.dumps(stated, sort_keys=True), recipes.to_json(run.arm.options)]
    parts += [recipes.to_json(_placeless(run.objective)), str(run.seed)]
    parts += [str(run.promises)] if run.promises else []
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def mixtures_digest(weights: np.ndarray) -> str:
    """A short name for the proposals (n, K), equal up to rounding at 1e-9."""
    rounded = np.round(np.asarray(weights, dtype=float), 9) + 0.0
    return hashlib.sha256(rounded.tobytes()).hexdigest()[:16]


class Archive:
    """The results of an ablation on disk: `runs/<key>-<recipe>.json` in the output folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        check_folder(folder / "runs")
        self._told: set[str] = set()  # files that are torn, and what is known to have changed

    def get(self, run: Run) -> RunResult | None:
        """The stored result of exactly this run, or None."""
        found = (self._read(path) for path in (self._path(run), self._old_path(run)))
        result = next((r for r in found if r is not None and r.recipe == run_digest(run)), None)
        if result is None or (name := result.outdated(run)) is None:
            return result
        self._tell(name, "%s has changed since runs with it were done; they are repeated.", name)
        return None

    def put(self, run: Run, result: RunResult) -> None:
        """Write a result, whole or not at all."""
        write_whole(self._path(run), json.dumps(plain(dataclasses.asdict(result))))

    @contextmanager
    def claim(self, run: Run) -> Iterator[bool]:
        """Hold a run for this process; yields False when another one on this machine has it.

        The kernel frees the lock of a dead process, so nothing is ever stuck.
        """
        try:
            held = take_flock(self._path(run).with_suffix(".lock"), wait=False)
        except BlockingIOError:
            yield False
            return
        with os.fdopen(held):
            yield True

    def _read(self, path: Path) -> RunResult | None:
        if not path.is_file():
            return None
        try:
            return build(RunResult, json.loads(path.read_text(encoding="utf-8")), str(path))
        except (OSError, ValueError) as error:  # cut short, or of another version
            text = "%s holds no result (%s); the run is repeated."
            self._tell(str(path), text, path, error)
            return None

    def _tell(self, what: str, text: str, *values: Any) -> None:
        """Warn, once of each thing."""
        if what not in self._told:
            self._told.add(what)
            log.warning(text, *values)

    def _path(self, run: Run) -> Path:
        return self._old_path(run).with_suffix(f".{run_digest(run)}.json")

    def _old_path(self, run: Run) -> Path:
        """Where version 0.1.0 wrote, whatever the recipe; it is read, not written."""
        # A digest keeps names apart that differ only in characters a file name cannot hold.
        clean = "".join(c if c.isalnum() or c in "-._" else "_" for c in run.key)
        short = hashlib.sha256(run.key.encode()).hexdigest()[:8]
        return self.folder / "runs" / f"{clean[:150]}-{short}.json"


def _placeless(choice: Choice) -> Choice:
    options = {key: value for key, value in choice.options.items() if key != "folder"}
    return dataclasses.replace(choice, options=options)


def plain(value: Any) -> Any:
    """A result's values as JSON holds them: ten digits, None for what is not finite."""
    if isinstance(value, (Mapping, list, tuple)):
        return walked(value, plain)
    if isinstance(value, (float, np.floating)):
        return float(f"{float(value):.10g}") if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
