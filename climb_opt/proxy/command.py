"""Someone else's trainer: a command run on a trial's folder.

    <directory>/trial.json    what to train: mixture, tokens, seed, shards, a Megatron-style blend
    <directory>/scores.json   what the command leaves: {"component": number, ...}
    <directory>/model         optional: a Hugging Face model that our evaluators then score
    <directory>/log.txt       what the command printed

The command may use {trial} (the file), {directory} and {python}. It succeeds by exiting 0; anything
else, a timeout, or scores that are not numbers fails the trial with the end of its log. When the
worker is stopped it gets SIGTERM; its folder stays, so a retry of the slot may go on there.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.indexed import blended, index_shards
from climb_opt.proxy.job import Job, Outcome, Watch
from climb_opt.reading import read_json
from climb_opt.recipes import ProxyRecipe
from climb_opt.schedules import step_borders
from climb_opt.shards import Corpus
from climb_opt.strict import check_ranges

logger = logging.getLogger(__name__)

PLACEHOLDERS = ("{trial}", "{directory}", "{python}")
GRACE = 30.0  # seconds between SIGTERM and SIGKILL
POLL = 0.1  # seconds
LOG_TAIL = 12  # lines shown when a command fails


class CommandTrainer:
    """Runs `recipe.command` for every trial.

    Args:
        share: of each domain's tokens, that a trial is to read from.

    Raises:
        UserError: an unknown placeholder, an empty command, an average (the command has the
            weights), or several processes: the command starts its own.
    """

    def __init__(
        self,
        corpus: Corpus,
        recipe: ProxyRecipe,
        *,
        directory: Path,
        world: int = 1,
        share: float = 1.0,
    ) -> None:
        check_ranges(recipe, "proxy")
        self.corpus, self.recipe, self.directory, self.share = corpus, recipe, directory, share
        self._words = shlex.split(recipe.command or "")
        if not self._words:
            raise UserError("proxy.command is empty; give the program that trains one trial.")
        for name in re.findall(r"{\w+}", recipe.command or ""):
            if name not in PLACEHOLDERS:
                known = ", ".join(PLACEHOLDERS)
                raise UserError(f"proxy.command: unknown placeholder {name}. Known: {known}.")
        if recipe.average:
            raise UserError(
                f"proxy.average is {recipe.average}, but proxy.command trains by itself and keeps "
                "its weights; have it average them, and leave average at 0."
            )
        if recipe.reweight is not None:
            raise UserError(
                f"proxy.reweight is {recipe.reweight.name}, but proxy.command trains by itself; "
                "have it move the weights, and drop reweight."
            )
        if world > 1:
            raise UserError(
                f"proxy.command was started in {world} processes; run climb-opt without "
                "accelerate or torchrun, and let the command start its own processes."
            )

    def train(self, job: Job, watch: Watch) -> Outcome:
        """Run the command and read its scores.

        Raises:
            TrialFailed: exit status, timeout or bad scores; the message ends with its log's end.
            Interrupted: the worker was asked to stop.
        """
        folder = (self.directory / job.name).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        trial, scores = folder / "trial.json", folder / "scores.json"
        trial.write_text(json.dumps(self.describe(job), indent=1), encoding="utf-8")
        if scores.is_dir() and not scores.is_symlink():  # what an earlier attempt failed with
            shutil.rmtree(scores)
        scores.unlink(missing_ok=True)
        begun = time.perf_counter()
        self._run(folder, trial, watch)
        seconds = time.perf_counter() - begun
        facts = {
            "command": self.recipe.command,
            "tokens": self.recipe.tokens,
            "train_seconds": seconds,
            "tokens_per_second": self.recipe.tokens / max(seconds, 1e-9),
            **({} if self.recipe.flops is None else {"flops": self.recipe.flops}),
        }
        return Outcome(None, facts=facts, scores=_read_scores(scores, folder))

    def describe(self, job: Job) -> dict[str, Any]:
        """What `trial.json` holds. Paths are absolute; sizes are in tokens."""
        path = self.corpus.path.resolve()
        shards = {d.name: [file for file, _ in d.files(path)] for d in self.corpus.domains}
        return {
            "schema": 1 if len(job.phases) == 1 else 2,
            "name": job.name,
            "seed": job.seed,
            **self._mixture(job),
            "tokens": self.recipe.tokens,
            "share": self.share,
            "proxy": {
                k: v for k, v in asdict(self.recipe).items() if k not in ("command", "reweight")
            },
            "corpus": {
                "path": str(path),
                "digest": self.corpus.digest,
                "tokenizer": str(self.corpus.tokenizer_file.resolve()),
                "vocab_size": self.corpus.vocab_size,
                "eos": self.corpus.eos,
                "dtype": self.corpus.dtype,
            },
            "shards": shards,
            "targets": {n: str(path / s.file) for n, s in self.corpus.targets.items()},
        }

    def _mixture(self, job: Job) -> dict[str, Any]:
        # One that knows of no phases must find no weights: it would train on another run's.
        if len(job.phases) == 1:
            return self._weights(job.mixture)
        step, shares = self.recipe.batch_tokens, [phase.share for phase in job.phases]
        borders = step_borders(shares, self.recipe.tokens // step)
        ends = [*(border * step for border in borders[1:-1]), self.recipe.tokens]
        phases = zip(job.phases, [0, *ends[:-1]], ends, strict=True)
        told = [
            {"share": p.share, "tokens": end - begin, **self._weights(p.mixture)}
            for p, begin, end in phases
        ]
        return {"phases": told}

    def _weights(self, mixture: Mapping[str, float]) -> dict[str, Any]:
        return {"weights": dict(mixture), "megatron_blend": self._blend(mixture)}

    @cached_property
    def _indexed(self) -> bool:
        """Whether every shard has Megatron's index; shards of an earlier release get theirs now."""
        try:
            index_shards(self.corpus, [s for d in self.corpus.domains for s in d.shards])
        except UserError as error:
            logger.warning("trial.json holds no megatron_blend: %s", error)
            return False
        return True

    def _blend(self, mixture: Mapping[str, float]) -> list[str]:
        # Megatron's --data-path: weight, path without suffix, ... It asserts weight > 0.
        blend: list[str] = []
        for domain in self.corpus.domains if self._indexed else ():
            weight = float(mixture.get(domain.name, 0.0))
            for share, prefix in blended(weight, domain.files(self.corpus.path)):
                blend += [f"{share:.10g}", prefix] if share > 0 else []
        return blend

    def _run(self, folder: Path, trial: Path, watch: Watch) -> None:
        values = dict(zip(PLACEHOLDERS, (str(trial), str(folder), sys.executable), strict=True))
        words = [re.sub(r"{\w+}", lambda found: values[found[0]], word) for word in self._words]
        with (folder / "log.txt").open("wb") as output:
            try:
                process = subprocess.Popen(
                    words, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
                )
            except OSError as error:
                raise TrialFailed(f"proxy.command cannot be started: {error}") from None
            try:
                status = self._wait(process, folder, watch)
            finally:
                _end(process)
        if status != 0:
            raise TrialFailed(f"proxy.command ended with status {status}{_log_tail(folder)}")

    def _wait(self, process: subprocess.Popen, folder: Path, watch: Watch) -> int:
        limit = self.recipe.timeout
        deadline = math.inf if limit is None else time.monotonic() + limit
        while True:
            try:
                return process.wait(POLL)
            except subprocess.TimeoutExpired:
                if watch.stop():
                    raise Interrupted("proxy.command was stopped") from None
                if time.monotonic() > deadline:
                    raise TrialFailed(
                        f"proxy.command ran longer than {limit:g} s{_log_tail(folder)}"
                    ) from None


def _end(process: subprocess.Popen) -> None:
    """Stop the command and everything it started."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(GRACE)
    except ProcessLookupError:
        return  # all of it has ended
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _log_tail(folder: Path) -> str:
    text = (folder / "log.txt").read_bytes()[-4096:].decode("utf-8", errors="replace")
    lines = text.strip().splitlines()[-LOG_TAIL:]
    return "; its log ends:\n" + "\n".join(lines) if lines else "; it printed nothing"


def _read_scores(path: Path, folder: Path) -> dict[str, float]:
    if path.is_dir():
        raise TrialFailed(
            f"proxy.command made scores.json a folder; it must be a file that maps names to finite "
            f"numbers{_log_tail(folder)}"
        )
    if not path.is_file():
        if (folder / "model").is_dir():
            return {}
        raise TrialFailed(f"proxy.command left no scores.json and no model{_log_tail(folder)}")
    try:
        data = read_json(path)
    except UserError as error:
        raise TrialFailed(f"{str(error).rstrip('.')}{_log_tail(folder)}") from None
    held = data.values() if isinstance(data, dict) else [math.nan]
    if not all(type(v) in (int, float) and math.isfinite(v) for v in held):
        raise TrialFailed(
            f"scores.json must map names to finite numbers, but holds {str(data)[:200]}"
            f"{_log_tail(folder)}"
        )
    return {name: float(value) for name, value in data.items()}
