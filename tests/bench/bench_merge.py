"""What merging K branches takes in memory: streamed, it does not grow with their number.

    python tests/bench/bench_merge.py --branches 4 64 --parameters 62_000_000 --folder runs/merge

Writes models of that many parameters (bf16; every branch its own file, unless --links says how many
different ones there are, which the others link to), merges them in a process of its own for each
number of branches, and prints by how much that process's peak is above its memory with the model
merged into, pages of files among it, and what of that is still held afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from climb_opt.proxy.branches.merge import merge_into

WIDTH, LAYERS = 576, 12  # tensors of a 62M model: a table of tokens, and layers of equal size
MB = 2**20


class Stack(nn.Module):
    """A network of a stated size, with tensors of a language model's sizes."""

    def __init__(self, parameters: int) -> None:
        super().__init__()
        width = max(8, WIDTH * int((parameters / 62e6) ** 0.5 * 64) // 64)
        self.table = nn.Embedding(max(1, parameters // 3 // width), width)
        deep = (parameters - self.table.weight.numel()) // LAYERS
        self.layers = nn.ModuleList(
            nn.Linear(width, max(1, deep // width), bias=False) for _ in range(LAYERS)
        )


def write(folder: Path, count: int, parameters: int, links: int) -> list[Path]:
    """Folders of models, in bf16."""
    rng = torch.Generator().manual_seed(0)
    made: list[Path] = []
    for number in range(count):
        path = folder / f"branch{number}"
        file = path / "model.safetensors"
        if not file.exists():
            path.mkdir(parents=True, exist_ok=True)
            if links and number >= links:
                os.link(made[number % links] / file.name, file)
            else:
                state = Stack(parameters).state_dict()
                noise = {
                    k: torch.randn(v.shape, generator=rng, dtype=torch.bfloat16)
                    for k, v in state.items()
                }
                save_file(noise, str(file))
        made.append(path)
    return made


def memory(name: str) -> int:
    """Bytes of a line of this process's status: VmHWM is the most that was in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name))) * 1024


def merge(folder: Path, count: int, parameters: int) -> dict[str, float]:
    """Merge once, in this process."""
    network = Stack(parameters)
    size = 4 * sum(p.numel() for p in network.parameters())
    folders = [folder / f"branch{number}" for number in range(count)]
    weights = np.full(count, 1 / count)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = {name: memory(name) for name in ("VmHWM", "RssAnon")}
    begun = time.perf_counter()
    merge_into(network, folders, weights)
    seconds = time.perf_counter() - begun
    grown = {name: memory(name) - value for name, value in before.items()}
    return {"model": size, "peak": grown["VmHWM"], "left": grown["RssAnon"], "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--branches", type=int, nargs="+", default=[1, 4, 64])
    parser.add_argument("--parameters", type=int, default=62_000_000)
    parser.add_argument("--links", type=int, default=0, help="different files; 0: all")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--keep", action="store_true", help="the files")
    parser.add_argument("--once", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once is not None:
        print(json.dumps(merge(options.folder, options.once, options.parameters)))
        return
    write(options.folder, max(options.branches), options.parameters, options.links)
    print("| branches | model, MB | peak above the model, MB | held after | seconds |")
    print("|---|---|---|---|---|")
    for count in options.branches:
        command = [sys.executable, __file__, "--folder", str(options.folder), "--once", str(count)]
        command += ["--parameters", str(options.parameters)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        print(
            f"| {count} | {found['model'] / MB:.0f} | {found['peak'] / MB:.0f} "
            f"| {found['left'] / MB:.0f} | {found['seconds']:.1f} |"
        )
    if not options.keep:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
