"""The influence of domains on targets as numbers: S of TiKMiX (arXiv 2508.17677), in one file.

Notation: n targets, K domains; S (n, K): to first order, S w is by how much a model lowers its
targets when it goes on with the mixture w. A *gain* is what is wanted of a score, whichever way it
is better. Whoever measures S is `climb_opt/influence`; searches and baselines only read it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from climb_opt.errors import UserError, listed
from climb_opt.files import write_text
from climb_opt.reading import read_json
from climb_opt.strict import build
from climb_opt.text import strict_json

MEASURE = "climb-opt influence RECIPE --output FILE measures it"


@dataclass(frozen=True)
class Gains:
    """S, and the score that its targets add up to.

    `lowers` has a row for each target, by domain: the fall of the component, in its own unit, for
    each unit of weight that goes to the domain. `score` holds coefficients of the study that it was
    measured for, `direction` which way that is better; `facts` what was measured, at what cost.

    >>> gains = Gains({"a/bpb": {"web": 0.1, "code": 0.3}}, {"a/bpb": 1.0})
    >>> gains.of_score(["code", "web"])
    array([0.3, 0.1])
    """

    lowers: dict[str, dict[str, float]]
    score: dict[str, float]
    direction: Literal["minimize", "maximize"] = "minimize"
    facts: dict[str, Any] = field(default_factory=dict)

    def tasks(self, domains: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Gains (n, K) of the score's components, and what share of the score each makes (n,).

        A row is oriented: positive where the domain improves the score by its component.

        Raises:
            UserError: a domain without influence data.
        """
        used = {name: c for name, c in self.score.items() if c}
        if not used:
            raise UserError("influence: the score has no component, so no domain can gain it.")
        rows = [self._row(name, domains) for name in used]
        sign = 1.0 if self.direction == "minimize" else -1.0
        weights = np.array(list(used.values()))
        return sign * np.sign(weights)[:, None] * np.array(rows), np.abs(weights)

    def of_score(self, domains: Sequence[str]) -> np.ndarray:
        """What each domain (K,) gains the score, in its unit; positive is better."""
        gains, weights = self.tasks(domains)
        return np.asarray(weights @ gains)

    def _row(self, name: str, domains: Sequence[str]) -> list[float]:
        row = self.lowers[name]
        for domain in domains:
            if domain not in row:
                raise UserError(
                    f"influence: no data of domain {domain!r} on {name!r}; there is some of "
                    f"{listed(row)}. Measure it on this corpus ({MEASURE})."
                )
        return [row[domain] for domain in domains]

    # --- in a file --------------------------------------------------------------------------

    def write(self, path: str | Path) -> None:
        """Write the file that `read_gains` reads.

        Raises:
            UserError: it cannot be written.
        """
        data = {key: getattr(self, key) for key in ("direction", "score", "lowers", "facts")}
        write_text(Path(path), strict_json(data) + "\n")


def is_gains(text: str) -> bool:
    """Whether a text begins as the file of a measurement does."""
    return re.match(r'\{\s*"direction": .*"score": .*"lowers": ', text, re.DOTALL) is not None


def read_gains(path: str | Path) -> Gains:
    """The measurement in a file.

    Raises:
        UserError: no such file, not JSON, or something else than a measurement.
    """
    where = f"influence {str(path)!r}"
    gains = build(Gains, read_json(path), where)
    for name, row in gains.lowers.items():
        for domain, value in row.items():
            if not np.isfinite(value):
                raise UserError(f"{where}: {name!r} of {domain!r} is {value}, not a finite number.")
    missing = [name for name in gains.score if name not in gains.lowers]
    if missing:
        raise UserError(f"{where}: its score names {missing[0]!r}, of which it has no influence.")
    return gains
