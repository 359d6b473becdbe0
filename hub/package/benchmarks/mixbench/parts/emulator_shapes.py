# Written by hub/build.py from climb_opt: change it there.
"""Laws of other shapes than a mixing law, to see whether a search was made for one shape alone.

    Interactions   a task needs several kinds of text at once, and some domains spoil each other
    Thresholds     a domain helps once its share passes a threshold: plateaus, several optima
    Traces         ratios count: a tenth of a per cent of a rare domain matters as much as 10 of 100

Each is drawn from a seed. No constant of a sampler, predictor or rule of climb_opt was chosen on
them, but for `Traces`, which told that a process of roots needs another view (`gp/views.py`).
Lower is better; score = mean over C tasks. Notation: n mixtures, K domains, w weights (n, K).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np

from .emulator_lowest import lowest
from .errors import UserError, check_number
from .simplex import MixtureSpace
from .text import counted

FINE = tuple(np.geomspace(0.1, 1e-6, 20).tolist())  # exchanges that leave nothing to be found


class Law(ABC):
    """C losses of K domains that a formula gives; a `Source` whose optimum is searched for.

    Args:
        domains, tasks: how many.
        seed: of the law, not of the noise.
        space: bounds, prior and inventories; by default tokens fall off as 1 / rank.

    Raises:
        UserError: fewer than `FEWEST` domains, no task, a seed below 0.
    """

    FEWEST = 2

    def __init__(
        self, domains: int = 12, tasks: int = 4, *, seed: int = 0, space: MixtureSpace | None = None
    ) -> None:
        domains = domains if space is None else len(space)
        if domains < self.FEWEST or tasks < 1:
            least = counted(self.FEWEST, "domain")
            raise UserError(f"A law needs {least} and a task, but got {domains} and {tasks}.")
        check_number("The seed of a law", seed, 0)
        self.space = self.usual_space(domains) if space is None else space
        self.names = tuple(f"task{j}" for j in range(tasks))
        self.coefficients = np.full(tasks, 1.0 / tasks)
        self.draw(np.random.default_rng([seed, tasks, len(self.space)]), tasks, len(self.space))

    @staticmethod
    def usual_space(domains: int) -> MixtureSpace:
        """The space where none is given."""
        return falling(domains)

    @abstractmethod
    def draw(self, rng: np.random.Generator, tasks: int, domains: int) -> None:
        """Draw the law's constants."""

    @abstractmethod
    def components(self, weights: np.ndarray) -> np.ndarray:
        """The losses (n, C) of mixtures (n, K)."""

    def score(self, weights: np.ndarray) -> np.ndarray:
        """The mean loss (n,) of mixtures (n, K)."""
        return np.asarray(self.components(weights).mean(axis=1))

    def extrapolates(self, weights: np.ndarray) -> np.ndarray:
        """Never: the law holds everywhere. Shape (n,)."""
        return np.zeros(len(weights), dtype=bool)

    def quality(self) -> str:
        """One line that goes with every result."""
        kind = type(self).__name__.lower()
        return f"law of {kind}, {len(self.space)} domains; best known mixture found by search"

    def optimum(self) -> tuple[np.ndarray, float]:
        """The best mixture (K,) that a long search found, and its score."""
        return self._best, float(self.score(self._best[None])[0])

    @cached_property
    def _best(self) -> np.ndarray:
        return lowest(self.score, self.space, steps=FINE)


class Interactions(Law):
    """Tasks that need several kinds of text at once, and pairs of domains that spoil each other.

        loss_t = floor_t + height_t exp(-3 q_t) + sum_ij c_ij w_i w_j,   q_t = mean_g(x_tg^r)^(1/r)

    x_tg is the share of the domains that supply kind g of task t, scaled to 1 where it is ample;
    r = -1.5 makes kinds complements: what is missing of one, no other makes up for.
    """

    KINDS, POWER = 3, -1.5

    def draw(self, rng: np.random.Generator, tasks: int, domains: int) -> None:
        """See `Law`."""
        # Every domain supplies some kinds, to a degree of its own.
        supply = rng.gamma(0.25, 1.0, (tasks, self.KINDS, domains))
        self._supply = supply / supply.max(axis=2, keepdims=True)
        self._floor = rng.uniform(2.0, 3.0, tasks)
        self._height = rng.uniform(0.8, 1.6, tasks)
        spoil = np.triu(rng.random((domains, domains)) < 2.0 / domains, 1)
        self._spoil = np.where(spoil, rng.uniform(0.5, 3.0, spoil.shape), 0.0)

    def components(self, weights: np.ndarray) -> np.ndarray:
        """See `Law`."""
        shares = np.einsum("nk,tgk->ntg", weights, self._supply) * self.KINDS + 1e-3
        q = np.mean(shares**self.POWER, axis=2) ** (1.0 / self.POWER)
        spoilt = np.einsum("ni,ij,nj->n", weights, self._spoil, weights)
        return np.asarray(self._floor + self._height * np.exp(-3.0 * q) + spoilt[:, None])


class Thresholds(Law):
    """Domains that help a task once their share passes a threshold, and hardly at all before.

        loss_t = top_t - sum_j b_tj / (1 + (theta_j / w_j)^s_j)

    The thresholds sum to more than 1: no mixture passes all of them, which to pass is the search.
    """

    def draw(self, rng: np.random.Generator, tasks: int, domains: int) -> None:
        """See `Law`."""
        self._gain = rng.gamma(0.5, 0.6, (tasks, domains))
        self._top = rng.uniform(3.0, 4.0, tasks) + self._gain.sum(axis=1)
        self._theta = np.clip(2.2 * rng.dirichlet(np.full(domains, 2.0)), 0.02, 0.5)
        self._steep = rng.uniform(2.5, 7.0, domains)

    def components(self, weights: np.ndarray) -> np.ndarray:
        """See `Law`."""
        ratio = self._theta / np.maximum(weights, 1e-12)
        passed = 1.0 / (1.0 + np.exp(np.minimum(self._steep * np.log(ratio), 700.0)))
        return np.asarray(self._top - passed @ self._gain.T)


class Traces(Law):
    """Tasks in which ratios of shares count, down to traces: an optimum in logarithms.

        loss_t = floor_t + log(1 + sum_j c_tj z_tj^2),   z_tj = log((w_j + d) / (m_tj + d))

    m_t is the task's own best mixture, from half of all text down to a thousandth; d = 3e-4.
    """

    TRACE = 3e-4

    def draw(self, rng: np.random.Generator, tasks: int, domains: int) -> None:
        """See `Law`."""
        shared = rng.normal(0.0, 1.6, domains)
        own = np.exp(shared + rng.normal(0.0, 0.6, (tasks, domains)))
        self._wanted = own / own.sum(axis=1, keepdims=True)
        self._weight = rng.gamma(0.5, 0.3, (tasks, domains))
        self._floor = rng.uniform(2.0, 3.0, tasks)

    def components(self, weights: np.ndarray) -> np.ndarray:
        """See `Law`."""
        logs = np.log(weights + self.TRACE)[:, None, :] - np.log(self._wanted + self.TRACE)
        return np.asarray(self._floor + np.log1p(np.einsum("ntk,tk->nt", logs**2, self._weight)))


def falling(domains: int) -> MixtureSpace:
    """A space whose domains' tokens fall off as 1 / rank, as in real corpora."""
    return MixtureSpace(zip(numbered(domains), 1.0 / np.arange(1, domains + 1), strict=True))


def numbered(domains: int) -> list[str]:
    """Names of domains: d00, d01, ... in their order."""
    width = len(str(domains - 1))
    return [f"d{i:0{width}d}" for i in range(domains)]
