"""How fast a proxy trains on this machine's CPU, as ratios within one run.

    loop      our trainer, eager and compiled, against HF Trainer on the same model, data, settings
    data      the mixture index against what that trainer consumes; memory of a large index
    phases    the index of a run in phases against that of one mixture
    turn      from one trial's last step to the next one's first step
    memory    peak of the trainer's process against HF Trainer's

CPU time with one thread; the two trainers take turns in blocks of steps, and medians are compared.

    python tests/bench/bench_train.py [--compile] [--blocks 5] [--size 1m]
"""

from __future__ import annotations

from harness import Quiet, parser_of, random_corpus  # first: one thread

# isort: split

import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import Trainer as HFTrainer
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from climb_opt.proxy import model
from climb_opt.proxy.data import Batches, MixtureIndex, Sequences
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job
from climb_opt.proxy.order import Stretch
from climb_opt.proxy.run import Run
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import ModelRecipe, ProxyRecipe
from climb_opt.shards import Corpus

SHAPES = {"0.2m": ModelRecipe(64, 2, 4), "1m": ModelRecipe(128, 4, 4), "4m": ModelRecipe(256, 4, 4)}
VOCABULARY = 2048
SEQUENCE = 256
BATCH = 4  # sequences a step
STEPS_A_BLOCK = 12


def corpus_in(folder: Path) -> Corpus:
    return random_corpus(folder, VOCABULARY, domains=4, tokens=400_000)


def recipe_of(shape: ModelRecipe, steps: int, *, compiled: bool) -> ProxyRecipe:
    return ProxyRecipe(
        model=shape,
        tokens=steps * BATCH * SEQUENCE,
        sequence=SEQUENCE,
        batch_tokens=BATCH * SEQUENCE,
        lr=1e-3,
        compile=compiled,
        precision="fp32",
    )


JOB = Job("bench", {"d0": 0.4, "d1": 0.3, "d2": 0.2, "d3": 0.1}, seed=0)


def our_blocks(corpus: Corpus, shape: ModelRecipe, blocks: int, compiled: bool) -> Iterator[float]:
    """CPU-seconds of each block of our loop; the first is warm-up."""
    recipe = recipe_of(shape, (blocks + 1) * STEPS_A_BLOCK, compiled=compiled)
    trainer = Trainer(corpus, recipe, ProxyGroup("fp32"), directory=Path(tempfile.mkdtemp()))
    run = Run(trainer, JOB, trainer.index(JOB))
    for _ in range(blocks + 1):
        begun = time.process_time()
        for _ in range(STEPS_A_BLOCK):
            run._one_step(run.read(run.step))
            run.step += 1
            run._check()
        yield time.process_time() - begun


class _Blocks(TrainerCallback):
    """Hands control back after every block, so that the two trainers can take turns."""

    def __init__(self, turn: Callable[[float], None]) -> None:
        self.turn = turn

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % STEPS_A_BLOCK == 0:
            self.begun = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % STEPS_A_BLOCK == 0:
            self.turn(time.process_time() - self.begun)


class _Rows(torch.utils.data.Dataset):
    def __init__(self, corpus: Corpus, rows: int) -> None:
        sequences = Sequences(corpus, SEQUENCE)
        index = MixtureIndex(sequences, JOB.mixture, total=rows, seed=0)
        self.tokens = sequences.read(index.ids(0, rows))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        tokens = torch.from_numpy(self.tokens[i].astype(np.int64))
        return {"input_ids": tokens[:-1], "labels": tokens[:-1]}


def hf_trainer(corpus: Corpus, shape: ModelRecipe, blocks: int, callbacks: list[Any]) -> HFTrainer:
    steps = (blocks + 1) * STEPS_A_BLOCK
    network = model.build(shape, model.configure(shape, corpus, SEQUENCE), seed=0)
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH,
        max_steps=steps,
        learning_rate=1e-3,
        weight_decay=0.1,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        lr_scheduler_type="constant",
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        log_level="error",
        dataloader_pin_memory=False,
    )
    rows = _Rows(corpus, steps * BATCH)
    return HFTrainer(model=network, args=arguments, train_dataset=rows, callbacks=callbacks)


def bench_loop(corpus: Corpus, shape: ModelRecipe, blocks: int, compiled: bool) -> None:
    ours: dict[str, list[float]] = {"eager": []} | ({"compiled": []} if compiled else {})
    runs = {kind: our_blocks(corpus, shape, blocks, kind == "compiled") for kind in ours}
    theirs: list[float] = []

    def turn(seconds: float) -> None:
        theirs.append(seconds)
        for kind, run in runs.items():
            ours[kind].append(next(run))

    trainer = hf_trainer(corpus, shape, blocks, [_Blocks(turn)])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    tokens = STEPS_A_BLOCK * BATCH * SEQUENCE
    hf = float(np.median(theirs[1:]))
    print(f"loop    HF Trainer             {tokens / hf:9.0f} tokens/CPU-s  1.00")
    for kind, times in ours.items():
        pairs = np.array(theirs[1:]) / np.array(times[1:])
        spread = f"[{pairs.min():.2f}, {pairs.max():.2f}]"
        speed = tokens / float(np.median(times[1:]))
        print(
            f"loop    ours, {kind:8s}         {speed:9.0f} tokens/CPU-s  "
            f"{np.median(pairs):.2f} {spread}"
        )


def bench_data(corpus: Corpus, consumed: float) -> None:
    sequences = Sequences(corpus, SEQUENCE)
    total = 64 * 3000
    batches = Batches(MixtureIndex(sequences, JOB.mixture, total=total, seed=0), batch=64)
    begun = time.process_time()
    for step in range(batches.steps):
        batches.read(step)
    speed = total * SEQUENCE / (time.process_time() - begun)
    print(
        f"data    index and read         {speed / 1e6:9.1f} M tokens/CPU-s  "
        f"{speed / consumed:.0f} x the trainer, {speed / 5e6:.1f} x streaming's published 5 M"
    )
    many = SimpleNamespace(
        domains=tuple(f"d{k}" for k in range(500)),
        sizes=np.full(500, 10**6),
        offsets=np.arange(501) * 10**6,
        share=1.0,
    )
    weights = np.random.default_rng(0).dirichlet(np.full(500, 0.3))
    tracemalloc.start()
    begun = time.process_time()
    index = MixtureIndex(
        many,
        dict(zip(many.domains, weights, strict=True)),
        total=20_000_000,
        seed=0,  # type: ignore[arg-type]
    )
    index.ids(10**7, 10**7 + 512)
    seconds, (_, peak) = time.process_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    error = float(np.abs(index.counts / index.total - weights).sum())
    print(
        f"index   20 M sequences, 500 domains: {peak / 1e6:.1f} MB at the peak, {seconds:.2f} "
        f"CPU-s, L1 error {error:.1e} (bound {500 / 4e7:.1e})"
    )


def bench_phases(repeats: int = 7) -> None:
    """The index of a run in phases against that of one mixture, in turns; medians of CPU time."""
    total, rng = 2_000_000, np.random.default_rng(0)
    many: Any = SimpleNamespace(
        domains=tuple(f"d{k}" for k in range(100)),
        sizes=np.full(100, 10**5),
        offsets=np.arange(101) * 10**5,
        share=1.0,
    )

    def cost(phases: int) -> float:
        rows = rng.dirichlet(np.full(100, 0.5), size=phases)
        mixtures = [dict(zip(many.domains, row, strict=True)) for row in rows]
        length = total // phases
        begun = time.process_time()
        stretches = [Stretch(mixture, length, length) for mixture in mixtures]
        index = MixtureIndex(many, stretches, total=total, seed=0)
        for start in range(0, total, 512):
            index.ids(start, min(start + 512, total))
        return time.process_time() - begun

    counts = (1, 2, 5)
    seconds = np.median([[cost(n) for n in counts] for _ in range(repeats)], axis=0)
    told = ", ".join(f"{n} phases {s / seconds[0]:.2f} x" for n, s in zip(counts[1:], seconds[1:]))  # noqa: B905
    print(
        f"phases  index of 2 M sequences, 100 domains: {1e6 * seconds[0] / total:.2f} CPU-us a "
        f"sequence in one phase; {told}"
    )


def bench_turn(corpus: Corpus, shape: ModelRecipe) -> None:
    trainer = Trainer(
        corpus,
        recipe_of(shape, 3, compiled=False),
        ProxyGroup("fp32"),
        directory=Path(tempfile.mkdtemp()),
    )
    marks: list[tuple[str, float]] = []
    one_step = Run._one_step

    def marked(run: Run, tokens: Any) -> None:
        marks.append(("begin", time.process_time()))
        one_step(run, tokens)
        marks.append(("end", time.process_time()))

    Run._one_step = marked  # type: ignore[method-assign]
    turns = []
    for seed in range(8):
        last = marks[-1][1] if marks else 0.0
        first = len(marks)
        trainer.group.run(lambda job: trainer.train(job, Quiet()).facts, replace(JOB, seed=seed))
        turns.append(marks[first][1] - last)
    Run._one_step = one_step  # type: ignore[method-assign]
    turn = float(np.median(turns[2:]))
    print(f"turn    last step to first step {1e3 * turn:8.0f} ms  {turn / 60:.2%} of a 60 s trial")


PEAK = """
import resource, sys
sys.path.insert(0, {folder!r})
import bench_train as b
from pathlib import Path
corpus = b.corpus_in(Path({corpus!r}))
shape = b.SHAPES[{size!r}]
if {ours}:
    list(b.our_blocks(corpus, shape, 1, False))
else:
    b.hf_trainer(corpus, shape, 1, []).train()
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def bench_memory(folder: Path, size: str) -> None:
    peaks = {}
    for ours in (True, False):
        code = PEAK.format(
            folder=str(Path(__file__).parent), corpus=str(folder), size=size, ours=ours
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        peaks[ours] = int(done.stdout.split("PEAK")[1]) / 1024
    print(
        f"memory  peak, ours / HF        {peaks[True]:9.0f} / {peaks[False]:.0f} MB  "
        f"{peaks[True] / peaks[False]:.2f}"
    )


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--compile", action="store_true", help="torch.compile too: a minute more")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--size", choices=SHAPES, default="1m")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    corpus, shape = corpus_in(folder), SHAPES[args.size]
    size = model.size_of(model.configure(shape, corpus, SEQUENCE))
    print(
        f"{size.parameters / 1e6:.2f}M parameters, sequence {SEQUENCE}, batch {BATCH}, "
        f"vocabulary {VOCABULARY}, torch {torch.__version__}, one thread"
    )
    bench_loop(corpus, shape, args.blocks, args.compile)
    bench_turn(corpus, shape)
    bench_data(corpus, consumed=5000.0)
    bench_phases()
    bench_memory(folder, args.size)


if __name__ == "__main__":
    main()
