"""How much of a GPU a proxy uses: its MFU, beside HF Trainer's and a plain PyTorch loop's.

MFU, model flops utilisation, is the flops a step needs over those the device could do meanwhile.

Flops of one token, forward and backward (PaLM, Chowdhery et al. 2022, appendix B; embeddings
looked up cost nothing, the output projection counts):

    6 x (parameters without embeddings + vocabulary x hidden) + 12 x layers x hidden x sequence

Attention is counted as if it were not causal, as in the paper; `--causal` counts half of it. Peak
is the dense bf16 figure of the device's data sheet, or --peak (in TFLOP/s).

    python tests/bench/bench_gpu.py [--proxy 350m] [--sequence 2048] [--micro 16384] [--steps 40]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from climb_opt import recipes
from climb_opt.proxy import model
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job
from climb_opt.proxy.run import Run
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import ProxyRecipe
from harness import random_corpus

VOCABULARY = 32_000
WARM_UP = 10  # steps, compilation among them
PEAKS = {"H200": 989.5, "H100": 989.5, "A100": 312.0, "L40S": 362.0, "B200": 2250.0}  # TFLOP/s


def flops_per_token(config: Any, sequence: int, *, causal: bool) -> float:
    """Model flops of one token, forward and backward."""
    size = model.size_of(config)
    return size.token_flops(sequence) + (0 if causal else size.attention_flops(sequence))


def peak_of(device: str, given: float | None) -> float:
    """Dense bf16 flops a second."""
    known = [tflops for name, tflops in PEAKS.items() if name in device]
    if given is None and not known:
        raise SystemExit(f"No peak known for {device!r}; give --peak TFLOPS.")
    return 1e12 * (given if given is not None else known[0])


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(step: Callable[[int], None], steps: int, device: torch.device) -> list[float]:
    """Seconds of each of five blocks of steps, after a warm-up."""
    for number in range(WARM_UP):
        step(number)
    blocks, size = [], max(steps // 5, 1)
    for block in range(5):
        wait(device)
        begun = time.perf_counter()
        for number in range(size):
            step(WARM_UP + block * size + number)
        wait(device)
        blocks.append((time.perf_counter() - begun) / size)
    return blocks


def ours(trainer: Trainer, steps: int) -> list[float]:
    """Seconds a step of our loop, data reading and clipping included."""
    job = Job("bench", {"d0": 1.0}, seed=0)
    run = Run(trainer, job, trainer.index(job))

    def step(number: int) -> None:
        run._one_step(run.read(run.step))
        run.step += 1

    return timed(step, steps, trainer.group.device)


def plain(trainer: Trainer, steps: int) -> list[float]:
    """The same model and batch in the plainest compiled PyTorch loop, tokens already on the GPU."""
    recipe, device = trainer.recipe, trainer.group.device
    network = model.build(recipe.model, trainer.config, seed=0).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    tokens = torch.randint(0, VOCABULARY, (trainer.micro, recipe.sequence + 1), device=device)

    def loss() -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = network(input_ids=tokens[:, :-1], use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())

    compiled = torch.compile(loss, dynamic=False)

    def step(number: int) -> None:
        for _ in range(trainer.batch // trainer.micro):
            compiled().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return timed(step, steps, device)


def hf_trainer(trainer: Trainer, steps: int) -> list[float]:
    """HF Trainer on the same model, data and settings, compiled too."""
    from transformers import Trainer as HFTrainer
    from transformers import TrainerCallback, TrainingArguments

    recipe, device = trainer.recipe, trainer.group.device
    begun: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if (state.global_step - WARM_UP) % size == 0:
                wait(device)
                begun.append(time.perf_counter())

    size = max(steps // 5, 1)
    total = WARM_UP + 5 * size
    rows = torch.utils.data.StackDataset(
        input_ids=_Rows(trainer, total), labels=_Rows(trainer, total)
    )
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=trainer.micro,
        gradient_accumulation_steps=trainer.batch // trainer.micro,
        max_steps=total,
        learning_rate=1e-3,
        optim="adamw_torch_fused",
        bf16=device.type == "cuda",
        use_cpu=device.type == "cpu",
        torch_compile=True,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_num_workers=2,
        dataloader_drop_last=True,
    )
    network = model.build(recipe.model, trainer.config, seed=0)
    HFTrainer(model=network, args=arguments, train_dataset=rows).train()
    return [(b - a) / size for a, b in itertools.pairwise(begun)]


class _Rows(torch.utils.data.Dataset):
    def __init__(self, trainer: Trainer, steps: int) -> None:
        self.trainer, self.rows = trainer, steps * trainer.batch

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, i: int) -> torch.Tensor:
        row = np.array([i % int(self.trainer.sequences.sizes.sum())])
        return torch.from_numpy(self.trainer.sequences.read(row)[0, :-1].astype(np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--proxy", default="350m")
    parser.add_argument("--sequence", type=int, default=2048)
    parser.add_argument("--micro", type=int, default=32_768, help="tokens of a pass")
    parser.add_argument("--batch", type=int, default=131_072, help="tokens of a step")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--peak", type=float, help="dense bf16 TFLOP/s of the device")
    parser.add_argument("--causal", action="store_true", help="count half of the attention")
    parser.add_argument("--only", choices=("ours", "plain", "hf"), help="one of the three loops")
    args = parser.parse_args()
    if not torch.cuda.is_available() and args.peak is None:
        print("bench_gpu: no CUDA device; nothing measured (--peak runs it on the CPU anyway).")
        return
    trainer = make_trainer(args)
    flops = flops_per_token(trainer.config, args.sequence, causal=args.causal)
    peak = peak_of(trainer.group.device_name, args.peak)
    print(
        f"{args.proxy} at sequence {args.sequence}, {flops / 1e9:.2f} GFLOP a token, "
        f"{trainer.group.device_name}, peak {peak / 1e12:.0f} TFLOP/s, torch {torch.__version__}"
    )
    loops = {"ours": ours, "plain": plain, "hf": hf_trainer}
    for name, loop in loops.items():
        if args.only in (None, name):
            report(name, loop(trainer, args.steps), trainer, flops, peak)
            trainer.group.free()
            torch._dynamo.reset()


def make_trainer(args: argparse.Namespace) -> Trainer:
    """Our trainer for the proxy and sizes asked for."""
    recipe: ProxyRecipe = replace(
        recipes.read_proxy(args.proxy),
        sequence=args.sequence,
        micro_batch_tokens=args.micro,
        batch_tokens=args.batch,
        tokens=args.batch * (WARM_UP + args.steps + 5),
        precision="auto",
        compile=True,
    )
    corpus = random_corpus(Path(tempfile.mkdtemp()), VOCABULARY)
    return Trainer(corpus, recipe, ProxyGroup("auto"), directory=Path(tempfile.mkdtemp()))


def report(name: str, seconds: list[float], trainer: Trainer, flops: float, peak: float) -> None:
    tokens = trainer.batch * trainer.recipe.sequence
    speed = tokens / float(np.median(seconds))
    cuda = trainer.group.device.type == "cuda"
    memory = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
    print(
        f"{name:6s} {speed:12.0f} tokens/s  MFU {speed * flops / peak:6.1%}  "
        f"[{tokens / max(seconds) * flops / peak:.1%}, {tokens / min(seconds) * flops / peak:.1%}]"
        f"  {memory:.1f} GiB"
    )
    if cuda:
        torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    sys.exit(main())
