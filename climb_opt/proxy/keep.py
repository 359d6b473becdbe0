"""The trained models worth keeping: those of the best few trials, and no more on disk."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path

from climb_opt.files import write_whole

log = logging.getLogger(__name__)

FOLDER = "models"
SCORE = "score.json"


class KeptModels:
    """A folder of at most `count` models.

    Args:
        maximize: whether a higher score is better.
    """

    def __init__(self, folder: Path, count: int, *, maximize: bool) -> None:
        self.folder, self.count, self._sign = folder, count, -1.0 if maximize else 1.0

    def offer(self, name: str, score: float, write: Callable[[Path], None]) -> Path | None:
        """Keep a model if it is among the best; `write` puts it into the folder it is given.

        Returns where it was kept, or None. Models that fell out of the best are deleted.
        """
        if self.count < 1:
            return None
        others = [(s, path) for s, path in self._ranked() if path.name != name]
        if len(others) >= self.count and not self._sign * score < others[self.count - 1][0]:
            return None
        kept = self.folder / name
        write(kept)
        write_whole(kept / SCORE, json.dumps({"score": score}))
        for _, path in others[self.count - 1 :]:
            shutil.rmtree(path, ignore_errors=True)  # another worker may have been first
        log.info("Kept the model of %s in %s; %s", name, kept, describe(self.folder))
        return kept

    def _ranked(self) -> list[tuple[float, Path]]:
        """Best first, by what is lower where it is better; a folder without a score is a write
        that was cut off, and goes last."""
        found = [(_read_score(path / SCORE, self._sign), path) for path in self.folder.glob("*/")]
        return sorted(found, key=lambda pair: pair[0])


def _read_score(path: Path, sign: float) -> float:
    try:
        score = float(json.loads(path.read_text(encoding="utf-8"))["score"])
        if math.isnan(score):
            raise ValueError("it is not a number")
    except FileNotFoundError:
        return math.inf
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        log.warning("%s holds no score (%s); its model counts as the worst.", path, error)
        return math.inf
    return sign * score


def describe(folder: Path) -> str:
    """The disk a folder uses, for a log line: "3 models, 41.2 MB"."""
    models = sum(1 for path in folder.glob("*/"))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{models} model{'' if models == 1 else 's'}, {size / 1e6:.1f} MB"
