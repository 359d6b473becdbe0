"""The branches of a corpus: one a domain, or one a group of domains too small for their own."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from climb_opt.errors import UserError, listed, misnamed
from climb_opt.study_recipe import MIXMIN, BranchesRecipe

RESERVED = {"trunk", MIXMIN}  # names of parts that are no branches


@dataclass(frozen=True)
class Branch:
    """What one branch is of: some domains, by their shares of the prior.

    `mixture` is what it reads: a share of general data, drawn from the prior, among it.
    """

    name: str
    domains: tuple[str, ...]
    mixture: Mapping[str, float]


@dataclass(frozen=True)
class Branches:
    """All branches of a trunk; their domains are those of the corpus, each once."""

    branches: tuple[Branch, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names, in order of size."""
        return tuple(branch.name for branch in self.branches)

    @property
    def grouped(self) -> tuple[Branch, ...]:
        """Those of several domains, between which a read-out sees no difference."""
        return tuple(branch for branch in self.branches if len(branch.domains) > 1)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence on each of those."""
        text = "{} have one branch: what is read off the branches does not tell them apart"
        return tuple(text.format(listed(branch.domains)) for branch in self.grouped)

    def shares(self, mixture: Mapping[str, float]) -> np.ndarray:
        """The share (branches,) of a mixture that each branch stands for; they sum to 1."""
        shares = np.array([sum(mixture.get(d, 0.0) for d in b.domains) for b in self.branches])
        return np.asarray(shares / shares.sum())


def check_new(branches: Branches, recipe: BranchesRecipe) -> None:
    """Refuse what no new study may begin with: one branch for several domains, off which nothing
    can be read, and one called as another part, which would never be trained."""
    for name in branches.names:
        if name in RESERVED or branches.names.count(name) > 1:
            also = "means something else" if name in RESERVED else "is a domain's branch, too"
            raise UserError(
                f"study.branches.groups: {name!r} {also}; name that group otherwise, such as "
                f"{f'my-{name}'!r}."
            )
    if len(branches.branches) == 1 and branches.grouped:
        raise UserError(
            f"study.branches: all domains would be one branch, {branches.names[0]!r}, off which "
            "nothing can be read. Train branches on fewer tokens, or raise branches.epochs "
            f"({recipe.epochs:g}) or branches.most ({recipe.most})."
        )


def branches_of(recipe: BranchesRecipe, tokens: Mapping[str, float], length: int) -> Branches:
    """The branches of a corpus with these tokens a domain.

    The two smallest become one until none repeats its domains more than `epochs` times and there
    are at most `most`; groups that the recipe names stay as they are.

    Args:
        length: tokens of a branch.

    Raises:
        UserError: a group names an unknown domain, or a domain has the name of another part.
    """
    for group, domains in recipe.groups.items():
        for domain in domains:
            if domain not in tokens:
                missing = misnamed("domain", domain, tokens)
                raise UserError(f"study.branches.groups.{group}: the corpus has no {missing}")
    for domain in sorted(RESERVED & {*tokens} - {d for ds in recipe.groups.values() for d in ds}):
        raise UserError(
            f"study.branches: the domain {domain!r} cannot give its branch that name, which means "
            f"something else; name it otherwise: branches: {{groups: {{my-{domain}: [{domain}]}}}}."
        )
    own = (1 - recipe.general) * length
    named = {domain for domains in recipe.groups.values() for domain in domains}
    fixed = [(group, tuple(domains)) for group, domains in recipe.groups.items()]
    free: list[tuple[float, str, tuple[str, ...]]] = [
        (tokens[d], d, (d,)) for d in sorted(tokens) if d not in named and tokens[d] > 0
    ]
    heapq.heapify(free)
    most = max(recipe.most - len(fixed), 1)
    while len(free) > 1 and (own > recipe.epochs * free[0][0] or len(free) > most):
        (a, _, small), (b, name, large) = heapq.heappop(free), heapq.heappop(free)
        heapq.heappush(free, (a + b, name, (*large, *small)))
    groups = [*fixed, *((_named(domains), domains) for _, _, domains in free)]
    size = {name: sum(tokens[d] for d in domains) for name, domains in groups}
    groups.sort(key=lambda group: (-size[group[0]], group[0]))
    return Branches(
        tuple(Branch(n, d, _mixture(d, tokens, recipe.general)) for n, d in groups if size[n] > 0)
    )


def _named(domains: tuple[str, ...]) -> str:
    if len(domains) <= 2:
        return "+".join(domains)
    return f"{domains[0]}+{len(domains) - 1} others"


def _mixture(
    domains: tuple[str, ...], tokens: Mapping[str, float], general: float
) -> dict[str, float]:
    own, total = sum(tokens[d] for d in domains), sum(tokens.values())
    return {
        d: general * n / total + ((1 - general) * n / own if d in domains else 0.0)
        for d, n in tokens.items()
    }
