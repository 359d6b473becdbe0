"""Which clusters a build leaves out: those whose mean score is too low, or too high.

Pruning is off unless asked for: filters made for prose reject code, maths and recipes, which is
wrong for mixtures (docs/notes/corpus.md#scores).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from climb_opt.errors import UserError

# A threshold on each field's cluster mean. `paper`: one threshold on the mean over the fields
# (Section 4.1); `nemo`: a cluster goes when any field is below its own (Curator's example).
PRESETS: dict[str, tuple[Literal["any", "mean"], dict[str, float]]] = {
    "paper": (
        "mean",
        dict.fromkeys(("quality", "advertisement", "informational", "educational"), 3.0),
    ),
    "nemo": (
        "any",
        {"advertisement": 2.0}
        | dict.fromkeys(("quality", "informational", "educational", "cultural"), 1.0),
    ),
}


THRESHOLD = re.compile(r"(\w+)\s*(>=|<=)\s*(-?(?:\d+\.?\d*|\.\d+))")


@dataclass(frozen=True)
class Rule:
    """When a cluster is dropped.

    Attributes:
        minimum: field -> its mean must not be below.
        maximum: field -> its mean must not be above.
        combine: "any": one failing field is enough; "mean": the mean over the fields of `minimum`
            is held against the mean of their thresholds.
    """

    minimum: Mapping[str, float] = field(default_factory=dict)
    maximum: Mapping[str, float] = field(default_factory=dict)
    combine: Literal["any", "mean"] = "any"

    def reason(self, means: Mapping[str, float]) -> str | None:
        """Why a cluster with these mean scores is dropped, or None."""
        if self.combine == "mean" and self.minimum:
            mean = float(np.mean([means[f] for f in self.minimum]))
            least = float(np.mean(list(self.minimum.values())))
            if mean < least:
                return f"mean of {', '.join(self.minimum)} is {mean:.2f} < {least:g}"
        else:
            for name, least in self.minimum.items():
                if means[name] < least:
                    return f"{name} is {means[name]:.2f} < {least:g}"
        for name, most in self.maximum.items():
            if means[name] > most:
                return f"{name} is {means[name]:.2f} > {most:g}"
        return None

    @property
    def fields(self) -> tuple[str, ...]:
        """The scores the rule reads."""
        return tuple(dict.fromkeys([*self.minimum, *self.maximum]))


def parse_rule(texts: Sequence[str], scores: Sequence[str]) -> Rule | None:
    """`paper`, `nemo`, or thresholds such as `quality>=2.5` and `advertisement<=1`.

    Raises:
        UserError: neither, or a field that no --score gives.
    """
    minimum: dict[str, float] = {}
    maximum: dict[str, float] = {}
    combine: Literal["any", "mean"] = "any"
    for text in texts:
        if text in PRESETS:
            combine, thresholds = PRESETS[text]
            minimum |= {f: t for f, t in thresholds.items() if f in scores}
            if not minimum:
                raise UserError(
                    f"--prune {text} needs scores named {', '.join(thresholds)}; "
                    f"there are: {', '.join(scores) or 'none'}. Add --score NAME=KIND:WHERE."
                )
            continue
        match = THRESHOLD.fullmatch(text)
        if match is None:
            raise UserError(
                f"--prune {text!r}: expected {', '.join(PRESETS)}, or a threshold such as "
                "quality>=2.5 or advertisement<=1."
            )
        (minimum if match[2] == ">=" else maximum)[match[1]] = float(match[3])
    rule = Rule(minimum, maximum, combine)
    for name in rule.fields:
        if name not in scores:
            raise UserError(
                f"--prune names {name!r}, which no --score gives. "
                f"Scores: {', '.join(scores) or 'none'}."
            )
    return rule if texts else None


def cautions(texts: Sequence[str]) -> list[str]:
    """What rules do to each other that whoever typed them may not mean, a line each."""
    said: list[str] = []
    given: dict[tuple[str, str], str] = {}  # field and direction -> the rule that set it
    for text in dict.fromkeys(texts):
        match, replaced = THRESHOLD.fullmatch(text), dict[str, list[str]]()
        keys = [(f, ">=") for f in PRESETS[text][1]] if text in PRESETS else []
        for key in [(match[1], match[2])] if match is not None else keys:
            if key in given and (given[key] not in PRESETS or text in PRESETS):
                replaced.setdefault(given[key], []).append(key[0])
            given[key] = text
        for earlier, fields in replaced.items():
            said.append(f"--prune {text} replaces {earlier} for {', '.join(fields)}; drop one.")
        if match is not None and match[2] == ">=" and "paper" in texts:
            said.append(
                f"--prune {text} beside paper is no threshold of its own: paper compares the mean "
                "of all these fields with the mean of their thresholds."
            )
    return said
