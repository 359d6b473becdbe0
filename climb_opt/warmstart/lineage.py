"""Domains that were added, removed, merged or split: what an old mixture is in the new domains.

Sampling from a domain means sampling its tokens evenly. So an old mixture is a distribution over
tokens, and it is the new study's mixture only if some new weights give the same distribution:

    kept      the weight stays
    added     old runs read nothing of it: weight 0, exact
    split     the parts share the old weight by their tokens, exact
    merged    the sum of the old weights; exact only where they stood in the ratio of their tokens
    removed   exact only where the old weight was 0

`distance` is the share of the run's tokens that the new mixture would read differently (total
variation), 0 where the mapping is exact. This is Olmix's mixture reuse, made checkable.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from climb_opt.errors import UserError, did_you_mean, listed
from climb_opt.yamls import read_yaml

NOTHING = ("null", "~")  # of an added domain, unless an old one is called so
SAME_TOKENS = 0.01  # a domain of the same name whose tokens moved less than this is the same


@dataclass(frozen=True)
class Lineage:
    """How new domains come from old ones.

    Args:
        old, new: domain -> tokens.
        parents: new domain -> the old domains it is made of; empty for an added one.

    Raises:
        UserError: a parent that does not exist, or a domain that is both split and merged.
    """

    old: Mapping[str, float]
    new: Mapping[str, float]
    parents: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        for child, parents in self.parents.items():
            if child not in self.new:
                raise UserError(
                    f"Lineage: the new study has no domain {child!r}."
                    f"{did_you_mean(child, self.new)} Its domains: {listed(self.new)}."
                )
            for parent in parents:
                if parent not in self.old:
                    raise UserError(
                        f"Lineage: domain {child!r} comes from {parent!r}, which the old study "
                        "has not: expected an old domain or a list of them."
                        f"{did_you_mean(parent, self.old)} Its domains: {listed(self.old)}."
                    )
                if len(parents) > 1 and len(self.children(parent)) > 1:
                    raise UserError(
                        f"Lineage: {parent!r} is split over {listed(self.children(parent))} "
                        f"and {child!r} is merged from {listed(parents)}; that is no mixture "
                        "of whole domains."
                    )

    def children(self, parent: str) -> list[str]:
        """The new domains made of an old one."""
        return [child for child, parents in self.parents.items() if parent in parents]

    def removed(self) -> list[str]:
        """Old domains of which nothing is left."""
        return [parent for parent in self.old if not self.children(parent)]

    def added(self) -> list[str]:
        """New domains that come from nothing."""
        return [child for child in self.new if not self.parents.get(child)]

    def changes(self) -> list[str]:
        """The lineage in words; empty when nothing changed."""
        lines = [f"added {child!r}" for child in self.added()]
        lines += [f"removed {parent!r}" for parent in self.removed()]
        for parent in self.old:
            children = self.children(parent)
            if len(children) > 1:
                lines.append(f"split {parent!r} into {_list(children)}")
        for child, parents in self.parents.items():
            if len(parents) > 1:
                lines.append(f"merged {_list(parents)} into {child!r}")
            elif len(parents) == 1 and parents[0] != child and len(self.children(parents[0])) == 1:
                lines.append(f"renamed {parents[0]!r} to {child!r}")
        return lines

    def map(self, mixture: Mapping[str, float]) -> tuple[dict[str, float], float]:
        """The old mixture in the new domains, and the share of tokens it reads differently."""
        weights = {child: self._weight(child, mixture) for child in self.new}
        total = sum(weights.values())
        if total <= 0:
            return dict.fromkeys(self.new, 0.0), 1.0
        weights = {child: weight / total for child, weight in weights.items()}
        # Old domains are the atoms: a split reads each part evenly, so only merges, removals and
        # the rescaling they cause can read an old domain differently.
        off = (abs(mixture.get(p, 0.0) - self._read_of(p, weights)) for p in self.old)
        return weights, sum(off) / 2

    def _weight(self, child: str, mixture: Mapping[str, float]) -> float:
        parents = self.parents.get(child, ())
        if len(parents) == 1:
            share = self.new[child] / sum(self.new[s] for s in self.children(parents[0]))
            return mixture.get(parents[0], 0.0) * share
        return sum(mixture.get(parent, 0.0) for parent in parents)

    def _read_of(self, parent: str, weights: Mapping[str, float]) -> float:
        whole = {c: sum(self.old[p] for p in self.parents[c]) for c in self.children(parent)}
        return sum(weights[c] * (self.old[parent] / size) for c, size in whole.items() if size)


def read_lineage(
    old: Mapping[str, float], new: Mapping[str, float], file: str | Path | None = None
) -> Lineage:
    """The lineage of a file, completed by names: a new domain not named in it comes from the old
    domain of the same name, if there is one.

    The file is YAML, new domain -> old domain or list of old domains ([] for an added one):

        law: [statutes, cases]      # merged
        code-python: code           # split, with
        code-other: code

    Raises:
        UserError: a file that does not say this, or a domain of the same name whose tokens
            changed by more than a hundredth and that the file does not name.
    """
    stated = {} if file is None else _read(file, old)
    claimed = {parent for parents in stated.values() for parent in parents}
    parents: dict[str, tuple[str, ...]] = {**dict.fromkeys(new, ()), **stated}
    for child in new:
        if child in old and child not in {*stated, *claimed}:
            _check_same(child, old[child], new[child])
            parents[child] = (child,)
    return Lineage(old, new, parents)


def _check_same(name: str, was: float, now: float) -> None:
    if abs(now - was) > SAME_TOKENS * max(was, now):
        raise UserError(
            f"Domain {name!r} held {was:.0f} tokens in the old study and holds {now:.0f} now, so "
            "its trials read other data. Say how it came about in a --lineage file, for example "
            f"`{name}: {name}` if it is the same kind of text."
        )


def _read(file: str | Path, old: Collection[str]) -> dict[str, tuple[str, ...]]:
    data = read_yaml(file, text_values=True)
    if not isinstance(data, dict):
        raise UserError(f"{file}: a lineage maps new domains to old ones, e.g. law: [a, b].")
    return {child: _parents(value, old, file) for child, value in data.items()}


def _parents(value: object, old: Collection[str], file: str | Path) -> tuple[str, ...]:
    if value == "" or (value in NOTHING and value not in old):
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise UserError(f"{file}: expected an old domain or a list of them, but got {value!r}.")


def _list(names: Sequence[str]) -> str:
    return " and ".join(repr(n) for n in names)
