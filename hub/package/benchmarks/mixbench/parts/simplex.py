# Written by hub/build.py from climb_opt: change it there.
"""The mixture simplex as an Optuna search space.

A *mixture* maps each domain to its weight; the *weights* are the same numbers as an array in the
order of `MixtureSpace.domains`. A trial's parameters are its weights: one `FloatDistribution(0, 1)`
named `w/<domain>` per domain, summing to 1. This is the only file that knows that encoding.

Notation: K domains, `p` the prior (K,), `w` weights (K,) or (n, K), `lower <= w <= upper`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution

from .bounds import SUM_TOLERANCE, check_bounds, check_weights, read_bound, scale_into
from .draws import dirichlet, mixed, powered
from .errors import UserError, misnamed
from .sums import Amounts, by_name, checked_sum, read_amounts
from .written import number

PREFIX = "w/"
STORED = ("prior", "lower", "upper", "epochs")  # with a study, each by domain


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

    count = 1  # phases of a trial

    def __init__(
        self,
        prior: Amounts,
        *,
        lower: Mapping[str, float] | float | None = None,
        upper: Mapping[str, float] | float | None = None,
        max_epochs: float | None = None,
        trial_tokens: float | None = None,
    ) -> None:
        names, amounts = read_amounts(prior)
        order = sorted(range(len(names)), key=lambda i: (-amounts[i], names[i]))
        self.domains: tuple[str, ...] = tuple(names[i] for i in order)
        # `w/<domain>` for each domain, in the order of `domains`.
        self.parameter_names: tuple[str, ...] = tuple(PREFIX + name for name in self.domains)
        tokens = amounts[order]
        share = tokens / tokens.max()  # first, so that the sum cannot overflow
        self.prior: np.ndarray = share / share.sum()
        if trial_tokens is not None:
            trial_tokens = number(trial_tokens, "trial_tokens")
        if max_epochs is not None:
            max_epochs = number(max_epochs, "max_epochs")
        if trial_tokens is not None and not trial_tokens > 0:
            raise UserError(f"trial_tokens must be above 0, but is {trial_tokens}.")
        # Epochs (K,) of each domain in a trial that reads nothing else, 0 of one without tokens;
        # without `trial_tokens`, of a trial as long as all domains together.
        trials = self.prior if trial_tokens is None else tokens / trial_tokens
        self.epochs: np.ndarray = np.where(trials > 0, 1.0 / np.maximum(trials, 1e-12), 0.0)
        self.lower = read_bound("lower", lower, 0.0, self.domains)
        self.upper = read_bound("upper", upper, 1.0, self.domains)
        if max_epochs is not None:
            if trial_tokens is None or not max_epochs > 0:
                raise UserError(
                    f"max_epochs={max_epochs} needs trial_tokens > 0 and max_epochs > 0, "
                    f"but trial_tokens is {trial_tokens}."
                )
            self.upper = np.minimum(self.upper, max_epochs * tokens / trial_tokens)
        check_bounds(self.domains, self.lower, self.upper, max_epochs)
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
        given = [trial.suggest_float(name, 0.0, 1.0) for name in self.parameter_names]
        weights = self.of_blocks(np.reshape(given, (self.count, -1)))
        self.check(weights, f"Trial {trial.number}")
        return self.mixture(weights)

    def check(self, weights: np.ndarray, what: str = "The mixture") -> None:
        """Raise a `UserError` that names the rule `weights` breaks, if any."""
        total = float(np.sum(weights))
        if not abs(total - 1.0) <= SUM_TOLERANCE:
            raise UserError(
                f"{what}: the weights sum to {total:.12g}, not to 1. Use a sampler that knows the "
                "simplex (ClimbSampler, SimplexGPSampler, or SimplexSampler around any Optuna "
                "sampler); enqueue all weights or none: space.params(space.weights(mixture))."
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
        try:
            given = np.array([trial.params[name] for name in self.parameter_names], dtype=float)
        except (KeyError, TypeError, ValueError):
            return None
        blocks = given.reshape(self.count, -1)
        on_simplex = np.all(np.abs(blocks.sum(axis=1) - 1.0) <= SUM_TOLERANCE)
        return self.of_blocks(blocks) if on_simplex and np.all(given >= 0) else None

    def of_blocks(self, blocks: np.ndarray) -> np.ndarray:
        """Weights (..., K) of mixtures (..., 1, K): here a trial has one phase."""
        return blocks[..., 0, :]

    def mixture(self, weights: np.ndarray) -> dict[str, float]:
        """domain -> weight, as plain floats."""
        return {d: float(w) for d, w in zip(self.domains, weights, strict=True)}

    def params(self, weights: np.ndarray) -> dict[str, float]:
        """Optuna parameters for `weights`: plain floats, rounding clipped to [0, 1].

        A value outside its distribution by 1e-18 makes Optuna fall back silently to independent
        sampling for that one weight (docs/notes/running.md#optuna), hence the clip.

        Raises:
            UserError: another number of weights, or one outside [0, 1] by more than rounding.
        """
        clipped = np.clip(check_weights(self.domains, weights), 0.0, 1.0)
        return {n: float(w) for n, w in zip(self.parameter_names, clipped, strict=True)}

    def weights(
        self, mixture: Mapping[str, float], *, normalise: bool = False, what: str = "The mixture"
    ) -> np.ndarray:
        """Weights (K,) of a mapping domain -> weight; domains left out weigh 0.

        A sum that is 1 up to rounding is scaled to 1 (`climb_opt.sums` has the rule).

        Args:
            normalise: scale any sum to 1, for amounts instead of weights.
            what: names the mixture in errors.

        Raises:
            UserError: an unknown domain, a negative weight, a sum that is not 1, or a bound broken.
        """
        given = {d: number(w, f"{what}: the weight of {d!r}") for d, w in by_name(mixture, what)}
        if unknown := sorted(set(given) - set(self.domains)):
            raise UserError(f"{what}: Unknown {misnamed('domain', unknown[0], self.domains)}")
        for domain, weight in given.items():
            if not 0 <= weight < np.inf:
                raise UserError(
                    f"{what}: weights must be finite and not negative, but {domain!r} has {weight}."
                )
        total = sum(given.values()) if normalise else checked_sum(given.values(), what)
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
        if not np.all(np.any(made > 0, axis=-1)):
            raise UserError(f"{what} must return weights of which one is above 0, but all are 0.")
        return made

    def project(self, weights: np.ndarray) -> np.ndarray:
        """Cap and redistribute: the rows of `weights` (..., K), scaled into the bounds.

        Weights keep their proportions except where a bound stops them: w -> clip(s w, lower,
        upper) with the one s that makes the sum 1. Where every non-zero weight is at its cap, the
        rest goes to the other domains in proportion to the prior, then to their room.
        """
        w = np.maximum(np.asarray(weights, dtype=float).reshape(-1, len(self)), 0.0)
        w[~np.isfinite(w)] = 0.0
        largest = w.max(axis=1, keepdims=True)  # first, so that the sum cannot overflow
        w /= np.where(largest > 0, largest, 1.0)
        w[largest[:, 0] <= 0] = self.prior
        w /= w.sum(axis=1, keepdims=True)
        if self.bounded:
            outside = np.any((w < self.lower) | (w > self.upper), axis=1)
            if outside.any():
                w[outside] = scale_into(w[outside], self.lower, self.upper, self.prior)
        return w.reshape(np.shape(weights))

    def capped(self, upper: np.ndarray) -> MixtureSpace:
        """The space with `upper` (K,) in place of its own upper bounds."""
        return MixtureSpace(
            zip(self.domains, self.prior, strict=True),
            lower=self.mixture(self.lower),
            upper=self.mixture(upper),
        )

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
        alpha = np.multiply.outer(np.broadcast_to(strength, (n,)), powered(self.prior, temperature))
        return self.project(dirichlet(rng, alpha))

    def sample_mixed(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n draws of mixed concentration, shuffled, so that no one kind of optimum is favoured.

        Half RegMix's sparse prior, a quarter Dirichlet(1), a quarter Dirichlet(K x prior^.5
        normalised): the start that was best or level in every regime
        (docs/notes/searching.md#the-start).
        """
        return self.project(mixed(rng, n, self.prior))
