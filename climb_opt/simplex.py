"""The mixture simplex as an Optuna search space.

A *mixture* maps each domain to its weight; the *weights* are the same numbers as an array in the
order of `MixtureSpace.domains`. A trial's parameters are its weights: one `FloatDistribution(0, 1)`
named `w/<domain>` per domain, summing to 1. This is the only file that knows that encoding.

Notation: K domains, `p` the prior (K,), `w` weights (K,) or (n, K), `lower <= w <= upper`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution

from climb_opt.errors import UserError, did_you_mean
from climb_opt.mixtures import checked_sum
from climb_opt.written import number

PREFIX = "w/"
SUM_TOLERANCE = 1e-9
STORED = ("prior", "lower", "upper", "epochs")  # with a study, each by domain

# RegMix's sampler, as CLIMB's public code uses it: prior^0.5, strength from 15 log-spaced values.
SPARSE_TEMPERATURE = 0.5
SPARSE_STRENGTHS = np.geomspace(0.1, 5.0, 15)

Amounts = Mapping[str, float] | Iterable[tuple[str, float]]


class MixtureSpace:
    """Domains with a prior and bounds: every mixture that a search may propose.

    Domains are kept in canonical order, largest prior first (ties by name), whatever order they
    are given in, so that naming or listing them differently changes nothing a sampler draws.

    Args:
        prior: domain -> amount, usually its tokens; normalised to sum to 1.
        lower, upper: smallest and largest weight, for some domains or one number for all.
        max_epochs: a domain may be repeated at most this often: weight <= max_epochs x its tokens
            / trial_tokens. `prior` must then hold token counts.
        trial_tokens: tokens that one trial trains on; needed with `max_epochs`. Where `prior` holds
            token counts, they say how often a trial repeats each domain (`epochs`).

    Raises:
        UserError: no domain, a name twice, a negative or non-finite amount, or bounds that no
            mixture meets (the message gives the sums).

    >>> space = MixtureSpace({"web": 700, "code": 200, "math": 100}, upper={"web": 0.6})
    >>> space.mixture(space.project(space.prior))
    {'web': 0.6, 'code': 0.26666666666666666, 'math': 0.13333333333333333}
    """

    def __init__(
        self,
        prior: Amounts,
        *,
        lower: Mapping[str, float] | float | None = None,
        upper: Mapping[str, float] | float | None = None,
        max_epochs: float | None = None,
        trial_tokens: float | None = None,
    ) -> None:
        names, amounts = _read_amounts(prior)
        order = sorted(range(len(names)), key=lambda i: (-amounts[i], names[i]))
        self.domains: tuple[str, ...] = tuple(names[i] for i in order)
        # `w/<domain>` for each domain, in the order of `domains`.
        self.parameter_names: tuple[str, ...] = tuple(PREFIX + name for name in self.domains)
        tokens = amounts[order]
        share = tokens / tokens.max()  # first, so that the sum cannot overflow
        self.prior: np.ndarray = share / share.sum()
        if trial_tokens is not None and not trial_tokens > 0:
            raise UserError(f"trial_tokens must be above 0, but is {trial_tokens}.")
        # Epochs (K,) of each domain in a trial that reads nothing else, 0 of one without tokens;
        # without `trial_tokens`, of a trial as long as all domains together.
        trials = self.prior if trial_tokens is None else tokens / trial_tokens
        self.epochs: np.ndarray = np.where(trials > 0, 1.0 / np.maximum(trials, 1e-12), 0.0)
        self.lower = self._bound("lower", lower, 0.0)
        self.upper = self._bound("upper", upper, 1.0)
        if max_epochs is not None:
            if trial_tokens is None or not max_epochs > 0:
                raise UserError(
                    f"max_epochs={max_epochs} needs trial_tokens > 0 and max_epochs > 0, "
                    f"but trial_tokens is {trial_tokens}."
                )
            self.upper = np.minimum(self.upper, max_epochs * tokens / trial_tokens)
        self._check_bounds(max_epochs)
        self.bounded = bool(np.any(self.lower > 0) or np.any(self.upper < 1))

    def __len__(self) -> int:
        return len(self.domains)

    def __repr__(self) -> str:
        shares = ", ".join(f"{d!r}: {p:.4g}" for d, p in zip(self.domains, self.prior, strict=True))
        return f"MixtureSpace({{{shares}}})"

    # --- a mixture <-> a trial's parameters -------------------------------------------------

    def distributions(self) -> dict[str, BaseDistribution]:
        """The Optuna search space: one weight in [0, 1] per domain."""
        return {name: FloatDistribution(0.0, 1.0) for name in self.parameter_names}

    def suggest(self, trial: optuna.trial.BaseTrial) -> dict[str, float]:
        """The trial's mixture, domain -> weight.

        Raises:
            UserError: the parameters do not sum to 1 or break a bound: the study's sampler does
                not know the simplex, or a trial was enqueued with only some weights.
        """
        weights = np.array([trial.suggest_float(name, 0.0, 1.0) for name in self.parameter_names])
        self.check(weights, f"Trial {trial.number}")
        return self.mixture(weights)

    def check(self, weights: np.ndarray, what: str = "The mixture") -> None:
        """Raise a `UserError` that names the rule `weights` breaks, if any."""
        total = float(np.sum(weights))
        if not abs(total - 1.0) <= SUM_TOLERANCE:
            raise UserError(
                f"{what}: the weights sum to {total:.12g}, not to 1. Use a sampler that knows the "
                "simplex (ClimbSampler, SimplexGPSampler, or SimplexSampler around any Optuna "
                "sampler); of a mixture of your own, enqueue space.params(space.weights(mixture))."
            )
        bad = np.flatnonzero(
            (weights < self.lower - SUM_TOLERANCE) | (weights > self.upper + SUM_TOLERANCE)
        )
        if bad.size:
            k = int(bad[0])
            raise UserError(
                f"{what}: weight {weights[k]:.6g} of domain {self.domains[k]!r} is outside "
                f"[{self.lower[k]:.6g}, {self.upper[k]:.6g}]."
            )

    def weights_of(self, trial: optuna.trial.FrozenTrial) -> np.ndarray | None:
        """The weights (K,) of a finished or running trial; None if it holds no mixture of ours."""
        params = trial.params
        try:
            weights = np.array([params[name] for name in self.parameter_names], dtype=float)
        except (KeyError, TypeError, ValueError):
            return None
        on_simplex = abs(weights.sum() - 1.0) <= SUM_TOLERANCE and np.all(weights >= 0)
        return weights if on_simplex else None

    def mixture(self, weights: np.ndarray) -> dict[str, float]:
        """domain -> weight, as plain floats."""
        return {d: float(w) for d, w in zip(self.domains, weights, strict=True)}

    def params(self, weights: np.ndarray) -> dict[str, float]:
        """Optuna parameters for `weights`: plain floats clipped to [0, 1].

        A value outside its distribution by 1e-18 makes Optuna fall back silently to independent
        sampling for that one weight (docs/notes/running.md#optuna), hence the clip.
        """
        clipped = np.clip(weights, 0.0, 1.0)
        return {n: float(w) for n, w in zip(self.parameter_names, clipped, strict=True)}

    def weights(
        self,
        mixture: Mapping[str, float],
        *,
        normalise: bool = False,
        what: str = "The mixture",
    ) -> np.ndarray:
        """Weights (K,) of a mapping domain -> weight; domains left out weigh 0.

        A sum that is 1 up to rounding is scaled to 1 (`climb_opt.mixtures` has the rule).

        Args:
            normalise: scale any sum to 1, for amounts instead of weights.
            what: names the mixture in errors.

        Raises:
            UserError: an unknown domain, a negative weight, a sum that is not 1, or a bound broken.
        """
        given = {d: number(w, f"{what}: the weight of {d!r}") for d, w in mixture.items()}
        for domain, weight in given.items():
            if not 0 <= weight < np.inf:
                raise UserError(
                    f"{what}: weights must be finite and not negative, but {domain!r} has {weight}."
                )
        total = sum(given.values()) if normalise else checked_sum(given.values(), what)
        if unknown := sorted(set(given) - set(self.domains)):
            raise UserError(f"{what}: Unknown {self._named(unknown[0])}")
        weights = np.array([given.get(d, 0.0) for d in self.domains])
        if total > 0 and (normalise or abs(total - 1.0) > SUM_TOLERANCE):
            weights = weights / weights.sum()
        self.check(weights, what)
        return weights

    # --- stored with a study ----------------------------------------------------------------

    def to_json(self) -> dict[str, dict[str, float]]:
        """Prior, bounds and epochs by domain, for a study attribute; `from_json` reads it back."""
        return {what: self.mixture(getattr(self, what)) for what in STORED}

    @classmethod
    def from_json(cls, data: Mapping[str, Mapping[str, float]]) -> MixtureSpace:
        """The space that `to_json` wrote.

        Raises:
            UserError: `data` is not of that form.
        """
        if not isinstance(data, Mapping) or not {"prior", "lower", "upper"} <= set(data):
            raise UserError(f"A stored space needs prior, lower and upper, but is {data!r}.")
        space = cls(data["prior"], lower=data["lower"], upper=data["upper"])
        if "epochs" in data:  # not in studies of 0.1.0
            space.epochs = np.array([float(data["epochs"][d]) for d in space.domains])
        return space

    # --- which mixtures are allowed --------------------------------------------------------

    def contains(self, weights: np.ndarray, atol: float = SUM_TOLERANCE) -> np.ndarray:
        """Whether each row of `weights` (..., K) sums to 1 and respects the bounds."""
        w = np.asarray(weights, dtype=float)
        return np.asarray(
            (np.abs(w.sum(-1) - 1.0) <= atol)
            & np.all(w >= self.lower - atol, axis=-1)
            & np.all(w <= self.upper + atol, axis=-1)
        )

    def made_by(self, what: str, weights: Any, *rows: int) -> np.ndarray:
        """The weights (*rows, K) that someone's own `what` made: a design, a baseline, a rule.

        Raises:
            UserError: they have another shape, or are no finite numbers that are not negative.
        """
        shape = (*rows, len(self))
        try:
            made = np.asarray(weights, dtype=float)
        except (TypeError, ValueError):
            raise UserError(f"{what} must return an array {shape}, not {weights!r:.60}.") from None
        if made.shape != shape:
            raise UserError(f"{what} must return an array {shape}, but it returned {made.shape}.")
        wrong = made[~(np.isfinite(made) & (made >= -SUM_TOLERANCE))]
        if wrong.size:
            raise UserError(f"{what} must return weights from 0, but one is {wrong[0]}.")
        return made

    def project(self, weights: np.ndarray) -> np.ndarray:
        """Cap and redistribute: the rows of `weights` (..., K), scaled into the bounds.

        Weights keep their proportions except where a bound stops them: w -> clip(s w, lower,
        upper) with the one s that makes the sum 1. Where every non-zero weight is at its cap, the
        rest goes to the other domains in proportion to the prior, then to their room.
        """
        w = np.asarray(weights, dtype=float).reshape(-1, len(self))
        w = np.where(np.isfinite(w), np.maximum(w, 0.0), 0.0)
        largest = w.max(axis=1, keepdims=True)  # first, so that the sum cannot overflow
        w = np.where(largest > 0, w / np.where(largest > 0, largest, 1.0), self.prior)
        w /= w.sum(axis=1, keepdims=True)
        if self.bounded:
            outside = np.any((w < self.lower) | (w > self.upper), axis=1)
            if outside.any():
                w[outside] = _scale_into(w[outside], self.lower, self.upper, self.prior)
        return w.reshape(np.shape(weights))

    # --- draws -----------------------------------------------------------------------------

    def sample(
        self,
        rng: np.random.Generator,
        n: int,
        *,
        temperature: float = 1.0,
        strength: float | np.ndarray = 1.0,
    ) -> np.ndarray:
        """n draws (n, K) from Dirichlet(strength x q), q = prior^temperature normalised.

        Args:
            temperature: exponent on the prior; 1 keeps it, 0 makes it uniform.
            strength: total concentration, one number or one per draw; small means sparse.
        """
        base = np.where(self.prior > 0, self.prior, 0.0) ** temperature
        base = np.where(self.prior > 0, base, 0.0)
        alpha = np.multiply.outer(np.broadcast_to(strength, (n,)), base / base.sum())
        return self.project(dirichlet(rng, alpha))

    def sample_mixed(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n draws of mixed concentration, shuffled, so that no one kind of optimum is favoured.

        Half RegMix's sparse prior, a quarter Dirichlet(1), a quarter Dirichlet(K x prior^.5
        normalised): the start that was best or level in every regime
        (docs/notes/searching.md#the-start).
        """
        sparse, flat = n - n // 2, n // 4
        strength = rng.choice(SPARSE_STRENGTHS, size=sparse)
        k = len(self)
        root = np.sqrt(self.prior)
        draws = np.concatenate(
            [
                self.sample(rng, sparse, temperature=SPARSE_TEMPERATURE, strength=strength),
                self.project(dirichlet(rng, np.ones((flat, k)))),
                self.project(
                    dirichlet(rng, np.tile(k * root / root.sum(), (n - sparse - flat, 1)))
                ),
            ]
        )
        return draws[rng.permutation(n)]

    # --- private ---------------------------------------------------------------------------

    def _bound(
        self, what: str, given: Mapping[str, float] | float | None, default: float
    ) -> np.ndarray:
        if given is None:
            return np.full(len(self), default)
        if isinstance(given, Mapping):
            if unknown := sorted(set(given) - set(self.domains)):
                raise UserError(f"{what}: unknown {self._named(unknown[0])}")
            bound = np.array([number(given.get(d, default), what) for d in self.domains])
        else:
            bound = np.full(len(self), number(given, what))
        for domain, value in zip(self.domains, bound, strict=True):
            if not 0.0 <= value <= 1.0:
                raise UserError(
                    f"{what}: the bound of domain {domain!r} must lie in [0, 1], but is {value}. "
                    "Write 30% or 0.3 for 30 percent."
                )
        return bound

    def _named(self, name: str) -> str:
        hint = did_you_mean(name, self.domains)
        return f"domain {name!r}.{hint} Domains: {', '.join(self.domains)}."

    def _check_bounds(self, max_epochs: float | None) -> None:
        for domain, low, high in zip(self.domains, self.lower, self.upper, strict=True):
            if low > high:
                raise UserError(
                    f"Domain {domain!r}: lower bound {low:.6g} exceeds upper bound {high:.6g}"
                    f"{f' (max_epochs={max_epochs})' if max_epochs else ''}."
                )
        low_sum, high_sum = float(self.lower.sum()), float(self.upper.sum())
        if low_sum > 1 + SUM_TOLERANCE or high_sum < 1 - SUM_TOLERANCE:
            raise UserError(
                f"No mixture meets the bounds: lower bounds sum to {low_sum:.6g} (at most 1), "
                f"upper bounds to {high_sum:.6g} (at least 1). Widen the bounds"
                f"{', raise max_epochs or train on fewer tokens' if max_epochs else ''}."
            )


def dirichlet(rng: np.random.Generator, alpha: np.ndarray) -> np.ndarray:
    """One Dirichlet draw per row of `alpha` (n, K); exact zeros where alpha is 0."""
    draws = rng.standard_gamma(alpha)
    totals = draws.sum(axis=1)
    # Small concentrations (0.1 over 240 domains) may underflow in every weight. A Dirichlet is
    # independent of its gammas' total, so drawing such rows again, in logs, biases nothing.
    lost = totals < 1e-290
    if lost.any():
        draws[lost] = _log_gamma_draws(rng, alpha[lost])
        totals = draws.sum(axis=1)
    return np.asarray(draws / totals[:, None])


def _log_gamma_draws(rng: np.random.Generator, alpha: np.ndarray) -> np.ndarray:
    # log G(a) = log G(a + 1) + log(U) / a, scaled so that a row's largest draw is 1.
    positive = alpha > 0
    safe = np.where(positive, alpha, 1.0)
    logs = np.log(rng.standard_gamma(safe + 1.0)) + np.log1p(-rng.random(alpha.shape)) / safe
    logs = np.where(positive, logs, -np.inf)
    return np.asarray(np.exp(logs - logs.max(axis=1, keepdims=True)))


def _read_amounts(prior: Amounts) -> tuple[list[str], np.ndarray]:
    pairs = list(prior.items()) if isinstance(prior, Mapping) else list(prior)
    for pair in pairs:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise UserError(
                f"The prior needs an amount for each domain, but got {pair!r} alone; give "
                "{domain: tokens}, or 1 for each domain to start from the uniform mixture."
            )
    names = [name for name, _ in pairs]
    for name in names:
        if not isinstance(name, str) or not name:
            raise UserError(f"A domain's name must be a non-empty string, but got {name!r}.")
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"Domain {name!r} is named twice; give each domain one name.")
    amounts = np.array([number(amount, f"The amount of domain {name!r}") for name, amount in pairs])
    if not names or not np.all(np.isfinite(amounts)) or np.any(amounts < 0) or not np.any(amounts):
        raise UserError(
            "The prior needs at least one domain and finite amounts, none negative, "
            f"not all zero, but got {dict(pairs)}."
        )
    return names, amounts


def _scale_into(w: np.ndarray, lower: np.ndarray, upper: np.ndarray, p: np.ndarray) -> np.ndarray:
    """clip(s w, lower, upper) with the s per row that makes the sum 1, exact up to rounding."""
    # Where all non-zero weights together cannot reach 1, a hint of prior, then of uniform, opens
    # the other domains; elsewhere zeros stay exact.
    stuck = np.where(w > 1e-20, upper, lower).sum(axis=1) < 1.0
    w = np.where(stuck[:, None], w + 1e-13 * p + 1e-22, w)
    low, high = np.full(len(w), -60.0), np.full(len(w), 60.0)  # log s
    for _ in range(70):
        middle = (low + high) / 2
        short = np.clip(np.exp(middle)[:, None] * w, lower, upper).sum(1) < 1.0
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    scaled = np.clip(np.exp((low + high) / 2)[:, None] * w, lower, upper)
    # The bisection leaves ~1e-15; give the rest to weights with room on the right side.
    gap = 1.0 - scaled.sum(1, keepdims=True)
    room = np.where(gap > 0, np.where(w > 0, upper - scaled, 0.0), scaled - lower)
    total = room.sum(1, keepdims=True)
    scaled += gap * room / np.where(total > 0, total, 1.0)
    return np.clip(scaled, lower, upper)
