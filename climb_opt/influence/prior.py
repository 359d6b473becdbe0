"""One proxy trained on the prior, and the influence of domains at its end.

Stopped while it trains it resumes from its checkpoint; stopped later, the trained proxy is on disk
and only the gradients are taken again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from climb_opt.errors import UserError
from climb_opt.gains.table import Gains
from climb_opt.influence.measure import Measured, Place, Targets, measure, targets_of
from climb_opt.influence.mixtures import added_up, candidates, searched
from climb_opt.influence.options import InfluenceOptions
from climb_opt.objective import ProxyObjective
from climb_opt.phases import PhasedSpace
from climb_opt.proxy import checkpoint, model
from climb_opt.proxy.branches.tree import TRUNK
from climb_opt.proxy.job import Job
from climb_opt.proxy.train import Trainer

NAME = "influence"  # the folder of its checkpoints


@dataclass(frozen=True)
class AtPrior:
    """The measurement at the end of the study's proxy on its prior; on every rank of its group.

    Args:
        proxies: the study's objective: what trains and what scores.

    Raises:
        UserError: the study's proxy is trained by a command, a component of its score has no
            gradient, or a library is missing; before anything is trained.
    """

    proxies: ProxyObjective
    options: InfluenceOptions
    seed: int = 0
    name: str = NAME

    def __post_init__(self) -> None:
        _ = self.targets, self._trunk_flops
        if isinstance(self.proxies.space, PhasedSpace):
            raise UserError(
                "influence: it is measured of mixtures that hold throughout; drop the study's "
                "phases (--set phases=[])."
            )
        if self.options.hessian == "ekfac":
            from climb_opt.influence import ekfac  # needs a library of its own

            ekfac.check()
        self.options.check(int(self._held.sum()))
        given = self.options.for_proxy(self.trainer.tokens, len(self.proxies.space))
        object.__setattr__(self, "options", given)

    @property
    def trainer(self) -> Trainer:
        """What trains the proxy."""
        trainer = self.proxies.trainer
        if not isinstance(trainer, Trainer):
            raise UserError(
                "influence: proxy.command trains elsewhere and leaves no gradients; influence is "
                "measured on proxies that climb_opt trains."
            )
        return trainer

    @property
    def targets(self) -> Targets:
        """The components of the study's score, each with who scores it."""
        return targets_of(self.proxies.evaluators, self.proxies.coefficients)

    @property
    def flops(self) -> float:
        """What it costs at most, known before: the proxy, and every gradient and product."""
        return self._flops(None)

    def measure(self) -> Gains:
        """Train the proxy, or find it, and measure.

        Raises:
            TrialFailed: a loss or a gradient that is not finite.
            Interrupted: the worker was asked to stop.
        """
        begun, space = time.perf_counter(), self.proxies.space
        mixture = space.mixture(space.project(space.prior))
        job = Job(self.name, mixture, self.seed)
        network, facts = self._trained(job)
        group, read, stop = self.trainer.group, self.trainer.sequences, self.proxies.stop
        place = Place(network, group, read, mixture, self.seed, stop)
        drawn = candidates(space, self.options.mixtures, self.seed) if self.options.mixtures else ()
        tried = [space.mixture(row) for row in drawn]
        measured = measure(place, self.targets, self.options, tried)
        if self.trainer.group.is_main:
            checkpoint.remove(self.trainer.directory / f"{self.name}-end")
        gains = self._gains(measured, facts, time.perf_counter() - begun)
        return self._searched(gains, np.array(drawn), measured) if len(drawn) else gains

    # --- private ----------------------------------------------------------------------------

    def _trained(self, job: Job) -> tuple[Any, dict[str, Any]]:
        """The proxy at its end, and the facts of its training."""
        trainer, folder = self.trainer, self.trainer.directory / f"{self.name}-end"
        fingerprint = trainer.fingerprint(job)
        held = checkpoint.load(folder, fingerprint)
        if all(trainer.group.gather(held is not None)) and held is not None:
            network = model.build(trainer.recipe.model, trainer.config, seed=job.seed)
            network.load_state_dict(held["model"])
            return network.to(trainer.group.device).eval(), held["facts"]
        outcome = self.proxies.rungs.train(job, self.proxies)  # with the trunk, if there is one
        facts = {key: outcome.facts[key] for key in ("tokens", "flops", "train_loss")}
        if trainer.group.is_main:
            state = {"model": outcome.model.state_dict(), "facts": facts}
            checkpoint.save(folder, fingerprint, state)
            checkpoint.remove(trainer.directory / self.name)
        trainer.group.share(None)  # nobody goes on before the file is there
        return outcome.model, facts

    def _gains(self, measured: Measured, facts: dict[str, Any], seconds: float) -> Gains:
        proxies, names = self.proxies, self.trainer.sequences.domains
        rows = zip(self.targets, measured.lowers.tolist(), strict=True)
        return Gains(
            lowers={name: dict(zip(names, row, strict=True)) for name, row in rows},
            score={name: proxies.coefficients[name] for name in self.targets},
            direction=proxies.recipe.direction,
            facts={
                "hessian": self.options.hessian,
                "damping": measured.damping,
                "mixtures": self.options.mixtures,
                "tokens": facts["tokens"] + int(self._beside(measured.products)),
                "flops": self._flops(measured.products),
                "trials": self._flops(measured.products) / self.trainer.flops,
                "seconds": seconds,
                "gradient_seconds": measured.seconds,
                "reference_loss": facts["train_loss"],
                "reliability": dict(zip(self.targets, measured.reliability, strict=True)),
                "corpus": proxies.corpus.digest,
                "seed": self.seed,
            },
        )

    def _searched(self, gains: Gains, rows: np.ndarray, measured: Measured) -> Gains:
        """With TiKMiX-M's mixture, and how far gradients added up, among the facts."""
        space, mixed = self.proxies.space, measured.mixtures.swapaxes(0, 1)
        columns = [self.trainer.sequences.domains.index(d) for d in space.domains]
        halves = zip(measured.halves[..., columns].swapaxes(0, 1), mixed, strict=True)
        found = [added_up(rows, own, each) for own, each in halves]
        oriented, _ = gains.tasks(space.domains)
        names = list(gains.score)  # whose fall is wanted where the sign is 1
        signs = np.sign([self.proxies.coefficients[n] for n in names]) * self.proxies.recipe.sign
        best = searched(space, oriented, rows, signs[:, None] * mixed.mean(axis=1), self.seed)
        facts = {
            "additivity": {name: one.correlation for name, one in zip(names, found, strict=True)},
            "additivity_by_noise": {n: one.by_noise for n, one in zip(names, found, strict=True)},
            "searched": space.mixture(best),
        }
        return replace(gains, facts={**gains.facts, **facts})

    def _beside(self, products: int | None) -> float:
        """Tokens of training that the gradients and products are worth."""
        read = [scorer.tokens_read(name) for name, scorer in self.targets.items()]
        assert self.options.tokens is not None
        whole = np.minimum(self._held / self.options.tokens, 1.0)  # others hold less than is asked
        return self.options.gradient_tokens(read, float(whole.sum()), products)

    @property
    def _held(self) -> np.ndarray:
        """Tokens (K,) of each domain, in whole sequences."""
        sequences = self.trainer.sequences
        return np.asarray(sequences.sizes * sequences.length)

    def _flops(self, products: int | None) -> float:
        trainer = self.trainer
        return self._trunk_flops + trainer.flops * (1.0 + self._beside(products) / trainer.tokens)

    @cached_property
    def _trunk_flops(self) -> float:
        """Of the trunk that the proxy goes on from; 0 where it was trained before."""
        tree = self.proxies.rungs.tree
        if tree is None or tree.trunk is None or tree.facts(TRUNK):
            return 0.0
        return tree.trunk.trainer.flops
