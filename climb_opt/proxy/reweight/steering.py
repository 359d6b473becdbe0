"""A method at work in one run: when it is asked, what its weights change, the path they took.

What is read remains a pure function of what a checkpoint holds. Where it changes, a *stretch* of
the run begins: of what was read before only each domain's count matters, for the next sequence of a
domain is the same whatever was read before. A stretch ends where the method is asked again; what
rounding left unread of a domain is owed to it in the next.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from climb_opt.doubles import in_double, over_ranks
from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.paths import Path
from climb_opt.proxy.data import Batches, MixtureIndex
from climb_opt.proxy.job import Job
from climb_opt.proxy.loss import token_losses
from climb_opt.proxy.order import Stretch, largest_remainder
from climb_opt.proxy.reweight.base import Weights, made
from climb_opt.proxy.setup import Setup
from climb_opt.text import walked

OFF = 1e-6  # what the sum of weights may differ from 1
ARRAYS = ("reading", "weighing", "sequences", "owed", "past", "laid", "counts")  # of the state


class Steering:
    """A method and the run it steers; to the method it is the `Training`, see `base.py`.

    Args:
        model: what the run trains.
        reference: the proxy that the method asked for; None without one.

    Raises:
        TrialFailed: the method gives weights that are no mixture, or repeats a domain too often.
    """

    def __init__(self, setup: Setup, job: Job, model: Any, reference: Any) -> None:
        choice = setup.recipe.reweight
        assert choice is not None
        self.setup, self.group, self.seed = setup, setup.group, job.seed
        self.name, self.method = choice.name, made(choice)
        self.model, self.reference = model, reference
        self.domains, k = setup.sequences.domains, len(setup.sequences.domains)
        weights = np.array([float(job.mixture.get(name, 0.0)) for name in self.domains])
        self.mixture = weights / weights.sum()
        self.mixture.setflags(write=False)  # the trial's own, which no method changes
        self.step, self.steps, self.length = 0, setup.steps, setup.recipe.sequence
        self.path = Path(self.domains, self.steps)
        self.reading: np.ndarray = self.mixture
        self.weighing: np.ndarray | None = None
        self.sequences = np.zeros(k, dtype=np.int64)  # read so far, of each domain
        self.counts = np.zeros(k, dtype=np.int64)  # the same since the method was asked
        self.sums = in_double(torch.zeros(k, device=self.group.device))  # their nats
        self.owed = np.zeros(k)  # sequences
        self.end: np.ndarray | None = None
        self.when = self._asked("when", self.steps)
        if not isinstance(self.when, Container):
            raise self._failed(
                f"names no steps, such as range(8, steps, 8), but {self.when!r:.100}"
            )
        self._take(self._asked("start", self))
        if not self.method.rereads:
            self._begin_stretch()

    # --- for the run ------------------------------------------------------------------------------

    def before(self, step: int) -> None:
        """Ask the method, if it is to be asked before this step, and note what the step reads."""
        self.step = step
        if step in self.when:
            self._take(self._asked("weigh", self))
            self.sums.zero_()
            self.counts[:] = 0
        ids = self.batches.ids(step)
        self._in_step = np.bincount(self.index.domain_of(ids), minlength=len(self.domains))

    def shares(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What a token of each of this rank's sequences (n,) counts for in the loss; their domains
        (n,)."""
        domains = self.index.domain_of(self.batches.ids(step, self.group.rank, self.group.world))
        share = np.full(len(domains), 1 / self.setup.batch)
        if self.weighing is not None:
            share = self.weighing[domains] / self._in_step[domains]
        # DDP averages the ranks' gradients, so each rank's share counts `world` times.
        share = (share * self.group.world / self.length).astype(np.float32)
        device = self.group.device
        return torch.from_numpy(share).to(device), torch.from_numpy(domains).to(device)

    def count(self, domains: torch.Tensor, nats: torch.Tensor) -> None:
        """Some of this rank's sequences were read: their domains (n,) and summed nats (n,)."""
        self.sums.index_add_(0, domains.to(self.sums.device), in_double(nats))

    def after(self, step: int) -> None:
        """The step was made by all ranks."""
        self.path.add(step, self.reading if self.weighing is None else self.weighing)
        self.sequences += self._in_step
        self.counts += self._in_step

    def finish(self) -> None:
        """After the last step, ask for the mixture that a further run would take, if it is one of
        the steps before which the method is asked."""
        self.step = self.steps
        if self.steps in self.when:
            weights = self._weights(self._asked("weigh", self))
            given = weights.reading if weights.losses is None else weights.losses
            self.end = None if given is None else self._checked(given)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        held = {name: getattr(self, name) for name in ARRAYS}
        sums = np.stack(self.group.gather(self.sums.cpu().numpy()))
        held |= {"sums": sums, "path": self.path.sums, "method": self._asked("state")}
        # As tensors, which a checkpoint can be read of without running anything.
        return walked(
            held, lambda v: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) else v
        )

    def load(self, saved: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it is of other domains or steps.
        """
        held = walked(saved, lambda v: v.cpu().numpy() if isinstance(v, torch.Tensor) else v)
        shapes = {name: getattr(held[name], "shape", None) for name in (*ARRAYS, "path")}
        fitting = dict.fromkeys(ARRAYS, (len(self.domains),)) | {"path": self.path.sums.shape}
        for name, shape in shapes.items():
            if shape != fitting[name] and not (name == "weighing" and shape is None):
                raise ValueError(f"{name} of shape {shape}, not {fitting[name]}")
        for name in ARRAYS:
            setattr(self, name, held[name])
        sums = held["sums"]
        if len(sums) != self.group.world:  # other ranks than before: the first takes it all
            rest = np.zeros((self.group.world - 1, len(self.domains)))
            sums = np.concatenate([sums.sum(axis=0, keepdims=True), rest])
        self.sums.copy_(torch.from_numpy(sums[self.group.rank]))
        self.path.sums = held["path"]
        self._lay_out()
        self.method.load(held["method"])

    def facts(self, done: int) -> dict[str, Any]:
        """Each domain's epochs and the path of the weights, of the steps that were done."""
        epochs = self.sequences / self.index.pools
        read = dict(zip(self.domains, epochs.tolist(), strict=True))
        return {"epochs": read, "path": self.path.data(done, self.end)}

    # --- for the method ---------------------------------------------------------------------------

    @property
    def losses(self) -> np.ndarray:
        """(K,) mean nats a token of each domain since the last call; NaN where none was read."""
        sums = self.total(self.sums.cpu().numpy())
        counted = np.where(self.counts > 0, self.counts * self.length, np.nan)
        return np.asarray(sums / counted)

    @property
    def read(self) -> np.ndarray:
        """(K,) tokens read of each domain so far."""
        return self.sequences * self.length

    def coming(self) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        """This rank's part of the coming step: tokens (n, T + 1) on the device, domains (n,)."""
        ids = self.batches.ids(self.step, self.group.rank, self.group.world)
        for part in self._parts(ids):
            yield self._tokens(part), self.index.domain_of(part)

    def of_domain(self, domain: str, sequences: int) -> Iterator[torch.Tensor]:
        """This rank's part of a domain's first sequences, in the seed's order: (n, T + 1)."""
        of = self.setup.sequences
        index = MixtureIndex(of, {domain: 1.0}, total=sequences, seed=self.seed)
        ids = Batches(index, batch=sequences).ids(0, self.group.rank, self.group.world)
        yield from map(self._tokens, self._parts(ids))

    def token_losses(self, network: Any, tokens: torch.Tensor) -> torch.Tensor:
        """Nats (n, T) of every token of `tokens` (n, T + 1) but the first, without gradients."""
        training = network.training
        network.eval()
        with torch.no_grad():
            losses = token_losses(network, tokens)
        network.train(training)
        return losses

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum of an array over all ranks."""
        return over_ranks(np.asarray(values), self.group.accelerator)

    # --- private ----------------------------------------------------------------------------------

    def _asked(self, what: str, *given: Any) -> Any:
        """What the method gives; an error of somebody's own fails the trial by its name."""
        try:
            return getattr(self.method, what)(*given)
        except (UserError, TrialFailed, Interrupted):
            raise
        except (Exception, SystemExit) as error:  # the user's own code: anything
            if ":" not in self.name:
                raise
            said = f"reweight {self.name!r}, before step {self.step}, raised {error!r} in {what}"
            raise RuntimeError(said) from error

    def _weights(self, given: Any) -> Weights:
        if not isinstance(given, tuple) or len(given) > len(Weights._fields):
            raise self._failed(f"gives {given!r:.100}, not Weights(reading=..., losses=...)")
        return Weights(*given)

    def _take(self, given: Any) -> None:
        weights = self._weights(given)
        if weights.losses is not None:
            self.weighing = self._checked(weights.losses)
        if weights.reading is not None:
            if self.step and not self.method.rereads:
                raise self._failed("changes what is read, but says `rereads = False`")
            self.reading = self._checked(weights.reading)
        if self.method.rereads:
            self._begin_stretch()

    def _checked(self, weights: np.ndarray) -> np.ndarray:
        try:
            found = np.array(weights, dtype=float)  # a copy: what is changed later is another's
        except (TypeError, ValueError):
            raise self._failed(f"gives {weights!r:.100}, not a number for each domain") from None
        if found.shape != (len(self.domains),):
            raise self._failed(f"gives weights of shape {found.shape}, not ({len(self.domains)},)")
        odd = np.flatnonzero(~(found >= 0) | np.isinf(found))
        if len(odd):
            name = self.domains[odd[0]]
            raise self._failed(f"gives domain {name!r} the weight {found[odd[0]]:g}")
        if abs(found.sum() - 1) > OFF:
            raise self._failed(f"gives weights that sum to {found.sum():.9g}, not to 1")
        return found

    def _failed(self, what: str) -> TrialFailed:
        return TrialFailed(f"reweight {self.name!r}, before step {self.step}: it {what}")

    def _begin_stretch(self) -> None:
        later = range(self.step + 1, self.steps) if self.method.rereads else ()
        end = next((s for s in later if s in self.when), self.steps)
        length = (end - self.step) * self.setup.batch
        due = self.reading * length + (self.owed if self.step else 0.0)
        self.past = self.sequences.copy()
        self.laid = largest_remainder(np.maximum(due, 0.0), length)
        self.owed = due - self.laid
        self._lay_out()

    def _lay_out(self) -> None:
        counts = [c for c in (self.past, self.laid) if c.any()]
        named = [dict(zip(self.domains, c.tolist(), strict=True)) for c in counts]
        lengths = [int(c.sum()) for c in counts]
        laid = [Stretch(*each) for each in zip(named, lengths, lengths, strict=True)]
        read, total = self.setup.sequences, sum(lengths)
        self.index = MixtureIndex(read, laid, total=total, seed=self.seed)
        self.setup.check_epochs(self.index)
        self.batches = Batches(self.index, batch=self.setup.batch)

    def _parts(self, ids: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, len(ids), self.setup.micro):
            yield ids[start : start + self.setup.micro]

    def _tokens(self, ids: np.ndarray) -> torch.Tensor:
        tokens = self.setup.sequences.read(ids).astype(np.int64)
        return torch.from_numpy(tokens).to(self.group.device)
