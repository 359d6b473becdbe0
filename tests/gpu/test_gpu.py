"""What only a GPU can show; `make gpu` runs it. Everything here is skipped without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from climb_opt.corpus.stages.cluster import choose_backend, kmeans
from climb_opt.errors import Interrupted
from climb_opt.objective import ProxyObjective
from climb_opt.proxy.job import Job
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import Choice, ModelRecipe, ProxyRecipe, StudyRecipe
from climb_opt.shards import Corpus
from climb_opt.study import open_study

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

WORKER = Path(__file__).parents[1] / "programs" / "worker.py"
MIXTURE = {"web": 0.2, "code": 0.3, "math": 0.5}
SEARCH = """
corpus: {corpus}
proxy:
  model: {{hidden: 64, layers: 2, heads: 4}}
  tokens: 65_536
  sequence: 32
  batch_tokens: 2048
  lr: 3e-3
evaluators: [{{name: heldout, target: sums}}]
score: [sums/bpb]
rounds: [3]
sampler: random
baselines: []
seed: 0
"""
ROWS = [
    {"query": "two plus", "choices": ["two", "a cat", "the mat"], "label": 0},
    {"query": "the cat sat", "choices": ["return x", "on a mat"], "label": 1},
]


class Quiet:
    """Nobody stops, nobody prunes."""

    def stop(self) -> bool:
        return False

    def report(self, network: Any, step: int) -> bool:
        return False


def search(folder: Path, corpus: Corpus, name: str, **environment: str) -> list[float]:
    """Scores of a search that the command line ran."""
    recipe = folder / "check.yaml"
    recipe.write_text(SEARCH.format(corpus=corpus.path))
    journal = str(folder / "climb.journal")
    command = ["search", str(recipe), "--study-name", name, "--storage", journal]
    subprocess.run(
        [sys.executable, "-m", "climb_opt", *command],
        env={**os.environ, **environment},
        cwd=folder,
        check=True,
        timeout=600,
    )
    study = open_study(None, study_name=name, storage=journal, create=False)
    return [trial.value for trial in study.trials if trial.value is not None]


def objective_of(corpus: Corpus, folder: Path, **proxy: Any) -> ProxyObjective:
    recipe = ProxyRecipe(
        model=ModelRecipe(hidden=128, layers=2, heads=4),
        tokens=64 * 2048,
        sequence=32,
        batch_tokens=2048,
        lr=3e-3,
    )
    study = StudyRecipe(
        corpus=str(corpus.path),
        proxy=replace(recipe, **proxy),
        evaluators=(Choice("heldout", {"target": "sums"}),),
        score=["sums/bpb"],
    )
    return ProxyObjective(corpus, study, directory=folder)


def test_a_gpu_scores_mixtures_as_a_cpu_does(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """bf16, compiled and fused on the GPU; fp32 and eager on the CPU; the same data and seeds."""
    on_gpu = search(tmp_path, tiny_corpus, "gpu")
    on_cpu = search(tmp_path, tiny_corpus, "cpu", CUDA_VISIBLE_DEVICES="")
    assert len(on_gpu) == 3
    assert on_gpu == pytest.approx(on_cpu, rel=0.03)


def test_memory_returns_to_its_level_trial_after_trial(tiny_corpus: Corpus, tmp_path: Path) -> None:
    objective = objective_of(tiny_corpus, tmp_path)
    levels = []
    for seed in range(20):
        objective.group.run(objective._work, Job(f"trial-{seed}", MIXTURE, seed=seed))
        levels.append(torch.cuda.memory_allocated())
    assert max(levels[2:]) <= levels[1] + 2**20


def test_out_of_memory_halves_the_micro_batch_once(tiny_corpus: Corpus, tmp_path: Path) -> None:
    objective = objective_of(tiny_corpus, tmp_path, compile=False, batch_tokens=2**18, tokens=2**19)
    trainer = objective.trainer
    assert isinstance(trainer, Trainer)
    objective.group.run(objective._work, Job("roomy", MIXTURE, seed=0))
    peak, whole = torch.cuda.max_memory_reserved(), trainer.micro
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.8 * peak / total)
    try:
        trainer._rehearsed = False
        _, _, facts = objective.group.run(objective._work, Job("tight", MIXTURE, seed=0))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert trainer.micro == whole // 2
    assert facts["steps"] == 2


def test_a_stopped_trial_goes_on_where_it_was(tiny_corpus: Corpus, tmp_path: Path) -> None:
    objective = objective_of(tiny_corpus, tmp_path, checkpoint_every=16)
    trainer = objective.trainer
    assert isinstance(trainer, Trainer)
    whole = objective.group.run(lambda job: trainer.train(job, Quiet()).facts, Job("a", MIXTURE, 0))

    class Once(Quiet):
        looks = 0

        def stop(self) -> bool:
            self.looks += 1
            return self.looks == 40

    with pytest.raises(Interrupted, match="stopped at step 39"):
        objective.group.run(lambda job: trainer.train(job, Once()).facts, Job("b", MIXTURE, 0))
    rest = objective.group.run(lambda job: trainer.train(job, Quiet()).facts, Job("b", MIXTURE, 0))
    assert rest["resumed_at"] == 39
    assert rest["train_loss"] == pytest.approx(whole["train_loss"], rel=1e-2)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_all_gpus_train_as_one(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """NCCL, DDP, a NaN on one rank, a stop and a resumption: `worker.py`, scenario "healthy"."""
    results = []
    for count in (1, torch.cuda.device_count()):
        folder = tmp_path / str(count)
        folder.mkdir()
        rows = "\n".join(json.dumps(row) for row in ROWS)
        (folder / "plus.validation.jsonl").write_text(rows)
        launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
        arguments = [str(WORKER), "healthy", str(tiny_corpus.path), str(folder)]
        subprocess.run([sys.executable, "-m", *launcher, *arguments], check=True, timeout=600)
        results.append(json.loads((folder / "result.json").read_text()))
    (one, *_), (plain, poisoned, stopped, resumed) = results
    assert plain["facts"]["devices"] == torch.cuda.device_count()
    assert plain["facts"]["train_loss"] == pytest.approx(one["facts"]["train_loss"], rel=1e-2)
    assert poisoned["kind"] == "TrialFailed" and stopped["kind"] == "Interrupted"
    assert resumed["value"] == pytest.approx(plain["value"], rel=1e-2)


def test_faiss_clusters_on_the_gpu_as_on_the_cpu() -> None:
    if choose_backend("auto") != "faiss-gpu":
        pytest.skip("faiss-gpu is not installed")
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((8, 16)).astype(np.float32)
    points = centres[rng.integers(8, size=8000)] + 0.01 * rng.standard_normal((8000, 16))
    points = points.astype(np.float32)
    found = {name: kmeans(points, 8, 20, 0, name) for name in ("faiss-gpu", "faiss")}
    errors = {
        name: float(((points[:, None] - c[None]) ** 2).sum(-1).min(1).mean())
        for name, c in found.items()
    }
    assert errors["faiss-gpu"] == pytest.approx(errors["faiss"], rel=0.5)
