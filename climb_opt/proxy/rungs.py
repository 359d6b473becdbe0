"""What trains the rungs of a study: a trainer each, all checked before any training.

Every rung trains on the study's corpus. One that reads fewer tokens than the target reads them from
pools cut to that share, so that a mixture repeats a domain as often as at the target (`repetition:
matched`, arXiv 2606.07597).
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from climb_opt.errors import listed, within
from climb_opt.proxy import checkpoint
from climb_opt.proxy.branches.tree import TRUNK, Tree
from climb_opt.proxy.command import CommandTrainer
from climb_opt.proxy.cost import by_method, place_of, share_of, trained_tokens
from climb_opt.proxy.data import Sequences, pools_of
from climb_opt.proxy.going_on import check_going_on
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import REFERENCE, Job, Outcome, ProxyTrainer, Watch
from climb_opt.proxy.train import Trainer
from climb_opt.proxy.trunks import FOLDER, trunks_of
from climb_opt.recipes import ProxyRecipe, StudyRecipe
from climb_opt.shards import Corpus

log = logging.getLogger(__name__)

MOST_OFF = 1.25  # times that a pool may be larger or smaller than its share without a word


class Rungs:
    """The trainers of a study's rungs, cheapest first; one where it has no ladder.

    Raises:
        UserError: a proxy does not fit the corpus or the launch; of a ladder, which one.
    """

    def __init__(
        self, corpus: Corpus, recipe: StudyRecipe, group: ProxyGroup, *, directory: Path
    ) -> None:
        self.corpus, self.group, self.directory = corpus, group, directory
        self.proxies, self.readouts = recipe.proxies, recipe.readouts
        self.target = len(self.readouts) + len(self.proxies) - 1  # where mixtures are judged
        self.matched = recipe.repetition == "matched"
        check_going_on(recipe)
        self._read: Sequences | None = None  # the target's, whose open files the others share
        numbers = range(len(self.proxies))  # the target first: others read a share of its tokens
        self.trainers = [self._checked(number) for number in reversed(numbers)][::-1]
        self._join_trunks()
        domains = len(corpus.domains)
        self.by_method = {
            name: self._trainer(-1, by_method(self.proxies[-1], method, domains))
            for name, method in recipe.methods.items()
        }
        self._last: int | str = len(self.proxies) - 1
        self.tree: Tree | None = None
        if recipe.branches is not None:
            target = self.trainers[-1]
            assert isinstance(target, Trainer)
            self.tree = Tree(target, recipe)

    @property
    def ours(self) -> list[Trainer]:
        """The trainers that are no command's, those of baselines by methods last."""
        every = (*self.trainers, *self.by_method.values())
        return [trainer for trainer in every if isinstance(trainer, Trainer)]

    def of(self, job: Job) -> int:
        """The rung of a trial: the target where it says nothing."""
        return self.target if job.rung is None else job.rung

    def train(self, job: Job, watch: Watch) -> Outcome:
        """Train the trial's proxy on its rung; errors as of `ProxyTrainer.train`."""
        number = self.of(job) - len(self.readouts)  # below 0: nothing is trained
        method = job.method
        trainer = self.trainers[max(number, 0)] if method is None else self.by_method[method]
        if (kind := method or number) != self._last and number >= 0:
            self._last = kind
            self.group.use(self.proxies[number].precision)
            if isinstance(trainer, Trainer) and trainer.compiled:
                torch.compiler.reset()  # code for other shapes holds memory and counts as a limit
        if self.tree is not None and job.part is not None:
            return self.tree.train(job.part, watch)
        if self.tree is not None and number < 0:
            return self.tree.read(self.readouts[number], job.mixture, watch)
        if self.tree is not None and number == len(self.proxies) - 1:
            self.tree.ensure((TRUNK,), watch)
        return trainer.train(job, watch)

    def forget(self, job: Job) -> None:
        """Remove what a trial that is finished, or lost for good, left to go on from."""
        for name in (job.name, job.name + REFERENCE):
            checkpoint.remove(self.directory / name)
        number = self.of(job) - len(self.readouts)
        trunk = self.trunks[number] if number >= 0 and job.method is None else None
        if trunk is not None and not self._is_gone_on_from(number):
            trunk.remove(job)

    # --- private ----------------------------------------------------------------------------

    def _checked(self, number: int) -> ProxyTrainer:
        alone = len(self.proxies) == 1
        with nullcontext() if alone else within(place_of(number, self.proxies)):
            return self._trainer(number)

    def _say_indivisible(self, number: int, read: Sequences) -> None:
        times = read.share * read.sizes / pools_of(read.sizes, read.share)
        off = np.maximum(times, 1 / times) > MOST_OFF
        if off.any() and self.group.is_main:
            log.warning(
                "%s repeats some domains not as often as the target (times: %s):"
                " they hold too few sequences to be cut to a share of %.3g.",
                place_of(number, self.proxies),
                listed(f"{read.domains[k]} {times[k]:.2f}" for k in np.flatnonzero(off)),
                read.share,
            )

    def _share(self, number: int) -> float:
        if not self.matched:
            return 1.0
        own, target = (trained_tokens(self.proxies[n]) for n in (number, -1))
        if own > target:
            log.warning(
                "%s repeats every domain %.3g times as often as the target, on "
                "%s tokens: no pool can be larger than the corpus.",
                place_of(number, self.proxies),
                own / target,
                f"{target:,}",
            )
        return share_of(self.proxies, number)

    def _is_gone_on_from(self, number: int) -> bool:
        return any(proxy.go_on for proxy in self.proxies[number + 1 : number + 2])

    def _join_trunks(self) -> None:
        self.trunks = trunks_of(self.corpus, self.proxies, self.directory)
        for number, (trunk, trainer) in enumerate(zip(self.trunks, self.trainers, strict=True)):
            if trunk is not None and isinstance(trainer, Trainer):
                trainer.join(trunk, leaves=self._is_gone_on_from(number))
        if any(self.trunks) and self.group.is_main:
            log.info(
                "Disk: each trial of a rung that is gone on from leaves a checkpoint in %s, until "
                "its mixture was trained on the rung above.",
                self.directory / FOLDER,
            )

    def _trainer(self, number: int, proxy: ProxyRecipe | None = None) -> ProxyTrainer:
        proxy, corpus, folder = proxy or self.proxies[number], self.corpus, self.directory
        share = self._share(number)
        if proxy.command is not None:
            world = self.group.world
            return CommandTrainer(corpus, proxy, directory=folder, world=world, share=share)
        read = Sequences(corpus, proxy.sequence, share=share, beside=self._read)
        self._read = self._read or read
        self._say_indivisible(number, read)
        return Trainer(corpus, proxy, self.group, directory=folder, sequences=read)
