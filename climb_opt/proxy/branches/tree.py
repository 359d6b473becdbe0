"""One trunk and its branches on this machine: trained once, then read off for any mixture."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.commands import command
from climb_opt.errors import Diverged, TrialFailed, UserError
from climb_opt.files import save_array
from climb_opt.ladder.branches.groups import Branches, branches_of
from climb_opt.ladder.branches.recipe import branch_tokens, trunk_steps
from climb_opt.proxy import checkpoint, model
from climb_opt.proxy.branches.ensemble import Ensemble, blank, convex, groups_of, mixmin, signed
from climb_opt.proxy.branches.merge import merge_into, shift
from climb_opt.proxy.branches.store import Store
from climb_opt.proxy.branches.trainers import BranchTrainer, TrunkTrainer
from climb_opt.proxy.job import Job, Outcome, Watch
from climb_opt.proxy.setup import Start
from climb_opt.proxy.train import Trainer
from climb_opt.simplex import MixtureSpace
from climb_opt.study_recipe import MIXMIN, StudyRecipe

log = logging.getLogger(__name__)

TRUNK = "trunk"


@dataclass(frozen=True)
class _Part:
    """What trains a trunk or a branch, and the job that does."""

    trainer: Trainer
    job: Job
    fingerprint: str


class Tree:
    """The trunk of a study's target, and its branches.

    Args:
        target: what trains the target's trials; they go on from the trunk from here on.
            Parts are kept beside the folder of its runs.

    Raises:
        UserError: a branch of less than one step, an unknown domain in a group, a disk too small.
    """

    def __init__(self, target: Trainer, recipe: StudyRecipe) -> None:
        assert recipe.branches is not None
        self.recipe, self.branching, self.target = recipe, recipe.branches, target
        self.corpus, self.group, self.directory = target.corpus, target.group, target.directory
        self.store = Store(self.directory.parent)
        self._begun = trunk_steps(self.branching, target.steps)
        tokens = branch_tokens(self.branching, target.recipe)
        self._length = tokens // (target.batch * target.recipe.sequence)
        self.branches: Branches = branches_of(self.branching, self.corpus.tokens(), tokens)
        self.trunk = self._trunk() if self._begun else None
        if self.trunk is not None:
            target.go_on_from(self.start)
        self._network: Any = None
        self._by_token: dict[str, Any] = {}
        self._say()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the branches; none where nothing is read off them."""
        return self.branches.names if self.branching.read else ()

    @cached_property
    def start(self) -> Start:
        """Where trials and branches go on."""
        assert self.trunk is not None
        part = self.trunk
        return Start(self._begun, part.job.mixture, part.fingerprint, self._state)

    def train(self, name: str, watch: Watch) -> Outcome:
        """Train a part, or take it as it lies there; every rank.

        Raises:
            TrialFailed: it cannot be trained, or has diverged.
            Interrupted: as of any trainer.
        """
        if name == MIXMIN:
            return self.read(name, {}, watch)
        if name == TRUNK and self.trunk is None:  # a checkpoint: there is nothing to train
            recipe, config = self.target.recipe.model, self.target.config
            network = model.build(recipe, config, seed=self.recipe.seed).to(self.group.device)
            return Outcome(network.eval(), facts={"flops": 0.0, "part": name})
        part = self._part(name)
        found = self._found(part)
        if found is not None:
            return Outcome(self.load(name), facts={**found, "flops": 0.0, "reused": True})
        if name != TRUNK:
            self.ensure((TRUNK,), watch)
        try:
            outcome = part.trainer.train(part.job, watch)
        except Diverged as reason:
            if name != TRUNK:  # on every rank: each takes the next seed from here on
                self.store.give_up(part.fingerprint, str(reason))
            raise
        outcome.facts.update(part=name, seed=part.job.seed)
        if self.group.is_main:
            outcome.facts.update(self._keep(name, part, outcome))
        self.group.share(None)  # nobody reads it before it is there
        checkpoint.remove(self.directory / part.job.name)
        if name != TRUNK and {"ensemble", MIXMIN} & {*self.branching.read}:
            self._said(name)  # while the workers that train the others are at it
        return outcome

    def ensure(self, names: tuple[str, ...], watch: Watch) -> None:
        """Have these parts on this disk: what another machine trained and this one lacks is
        trained again."""
        for name in names:
            if (name != TRUNK or self.trunk is not None) and self._found(self._part(name)) is None:
                log.info("%s is not in %s; training it here.", _called(name), self.store.folder)
                self.train(name, watch)
                self.group.free()

    def load(self, name: str) -> Any:
        """The model of a part that was trained, in eval mode."""
        folder = self.store.model(self._part(name).fingerprint)
        return model.load(folder).to(self.group.device)

    def folder(self, name: str, study: str) -> Path:
        """Where the weights of a part lie.

        Args:
            study: the name of the study whose part it is, for what to do where it is missing.

        Raises:
            UserError: no such part, or it is not trained yet.
        """
        part = self._part(name)
        if self.store.facts(part.fingerprint) is None:
            raise UserError(
                f"{_called(name)} is not in {self.store.folder}; train it by "
                f"`{command('search', study)}`, or name the folder of its runs by --runs."
            )
        return self.store.model(part.fingerprint)

    def facts(self, name: str) -> dict[str, Any]:
        """What is known of a part that was trained; nothing of another."""
        return dict(self.store.facts(self._part(name).fingerprint) or {})

    def merged(self, mixture: Mapping[str, float]) -> Any:
        """The branches' weights averaged by a mixture; valid until the next one is made."""
        folders = [self.store.model(self._part(name).fingerprint) for name in self.branches.names]
        if self._network is None:
            self._network = model.load(folders[0]).to(self.group.device)
        return merge_into(self._network, folders, self.branches.shares(mixture))

    def read(self, readout: str, mixture: Mapping[str, float], watch: Watch) -> Outcome:
        """What a read-out makes of a mixture, once all branches are here; errors as of `train`."""
        self.ensure((TRUNK, *self.names), watch)
        facts: dict[str, Any] = {"readout": readout, "flops": 0.0}
        if readout == MIXMIN:
            mixture = self.space.mixture(self.optimum())
            facts = {"part": readout, "flops": 0.0, "mixture": mixture}
        if readout == "merge":
            return Outcome(self.merged(mixture), facts=facts)
        scores = self.ensemble.scores(self.branches.shares(mixture))
        return Outcome(None, facts=facts, scores=scores, scored=True)

    def score_by(self, evaluators: Mapping[str, Any], space: MixtureSpace) -> None:
        """Read ensembles off these evaluators, and their optimum within these bounds.

        Args:
            evaluators: what tells one and its options from others -> a `ByToken`.

        Raises:
            UserError: the optimum is to be found, but the score is not convex.
        """
        self._by_token, self.space = dict(evaluators), space
        self.__dict__.pop("ensemble", None)
        if MIXMIN in self.branching.read:
            convex(blank(self._by_token.values()), signed(self.recipe))

    def optimum(self) -> np.ndarray:
        """The mixture (D,) within the bounds whose ensemble scores best; errors as of `mixmin`."""
        groups = groups_of(self.branches, self.space.domains)
        return mixmin(self.ensemble, signed(self.recipe), groups, self.space)

    @cached_property
    def ensemble(self) -> Ensemble:
        """What all branches say of the evaluators' tokens; kept on disk, read or asked for once."""
        said = [self._said(name) for name in self.branches.names]
        return replace(blank(self._by_token.values()), probabilities=np.exp(-np.stack(said)))

    # --- private ----------------------------------------------------------------------------

    def _said(self, name: str) -> np.ndarray:
        """Nats (n,) of a branch for each token of the evaluators, in float32."""
        part, network, found = self._part(name), None, []
        for key, evaluator in self._by_token.items():
            path = self.store.nats(part.fingerprint, key)
            here = all(self.group.gather(path.is_file()))
            if not here:
                network = self.load(name) if network is None else network
                nats = evaluator.token_nats(network, self.group.accelerator).astype(np.float32)
                if self.group.is_main:
                    save_array(path, nats)
                found.append(nats)
            else:
                found.append(np.load(path))
        return np.concatenate([np.zeros(0, dtype=np.float32), *found])

    def _trunk(self) -> _Part:
        trainer = TrunkTrainer(self.target, self._begun)
        tokens = self.corpus.tokens()
        prior = {domain: n / sum(tokens.values()) for domain, n in tokens.items()}
        part = self._named(trainer, prior, TRUNK)
        place = self.store.of(part.fingerprint)
        trainer.save = lambda run: run.save_as(place, part.fingerprint)
        return part

    def _state(self) -> dict[str, Any]:
        assert self.trunk is not None
        fingerprint = self.trunk.fingerprint
        saved = checkpoint.load(self.store.of(fingerprint), fingerprint)
        if saved is None:
            raise TrialFailed(f"the trunk's checkpoint in {self.store.of(fingerprint)} is gone")
        return saved

    @cached_property
    def _branch(self) -> BranchTrainer:
        rate = self.target.rate(self._begun) if self._begun else self.target.recipe.lr
        trainer = BranchTrainer(self.target, self.branching, self._length, rate)
        if self.trunk is not None:
            trainer.go_on_from(self.start)
        return trainer

    def _part(self, name: str) -> _Part:
        if name == TRUNK:
            if self.trunk is None:
                raise UserError("The trunk is the checkpoint that the recipe names, as it is.")
            return self.trunk
        for branch in self.branches.branches:
            if branch.name == name:
                return self._named(self._branch, branch.mixture, name)
        raise UserError(f"No branch {name!r}. Branches: {', '.join(self.branches.names)}.")

    def _named(self, trainer: Trainer, mixture: Mapping[str, float], name: str) -> _Part:
        """By the study's seed, or the first one after it with which it has not diverged."""
        job = Job("", mixture, self.recipe.seed, part=name)
        while self.store.diverged(fingerprint := trainer.fingerprint(job)):
            job = replace(job, seed=(job.seed + 1) % 2**32)
        return _Part(trainer, replace(job, name=f"branch-{fingerprint[:16]}"), fingerprint)

    def _found(self, part: _Part) -> dict[str, Any] | None:
        """What is known of a part; None unless every rank has it."""
        facts = self.store.facts(part.fingerprint)
        place = self.store.of(part.fingerprint)
        whole = part is not self.trunk or (place / checkpoint.FILE).is_file()
        return facts if all(self.group.gather(facts is not None and whole)) else None

    def _keep(self, name: str, part: _Part, outcome: Outcome) -> dict[str, Any]:
        known = ("tokens", "steps", "flops", "train_loss", "train_seconds")
        facts = {"name": name, **{key: outcome.facts[key] for key in known}}
        folder = self.store.put(part.fingerprint, outcome.model, self.corpus)
        if name != TRUNK and self.trunk is not None:
            facts["shift"] = shift(folder, self.store.model(self.trunk.fingerprint))
        found = self.store.seal(part.fingerprint, facts)
        return {key: found[key] for key in ("digest", "bytes", "shift") if key in found}

    def _say(self) -> None:
        if not self.group.is_main:
            return
        for note in self.branches.notes if self.branching.read else ():
            log.info("%s.", note)
        parts = [self._part(name) for name in self.names]
        missing = sum(self.store.facts(part.fingerprint) is None for part in parts)
        trunk = self.trunk is not None and self.store.facts(self.trunk.fingerprint) is None
        size = model.size_of(self.target.config).parameters
        said = self.store.check_space(missing + trunk, trunk, size)
        if missing or trunk:
            log.info("Disk: trunk and branches take %s.", said)


def _called(name: str) -> str:
    return "The trunk" if name == TRUNK else f"Branch {name!r}"
