"""Somebody else's trainer: a bigram model in numpy. It knows climb_opt by its trial.json alone."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np


def main(trial_file: str) -> None:
    trial = json.loads(Path(trial_file).read_text())
    corpus, rng = trial["corpus"], np.random.default_rng(trial["seed"])
    size = corpus["vocab_size"]
    counts = np.full((size, size), 0.01)
    for domain, weight in trial["weights"].items():
        shards = [np.fromfile(path, dtype=corpus["dtype"]) for path in trial["shards"][domain]]
        tokens = np.concatenate(shards).astype(np.int64)
        starts = rng.integers(0, len(tokens) - 1, round(weight * trial["tokens"]))
        np.add.at(counts, (tokens[starts], tokens[starts + 1]), 1.0)
    counts /= counts.sum(axis=1, keepdims=True)
    scores = {}
    for name, path in trial["targets"].items():
        tokens = np.fromfile(path, dtype=corpus["dtype"]).astype(np.int64)
        nats = -np.log(counts[tokens[:-1], tokens[1:]]).mean()
        scores[f"{name}/bits"] = nats / math.log(2)
        print(f"{name}: {scores[f'{name}/bits']:.3f} bits a token", flush=True)
    (Path(trial_file).parent / "scores.json").write_text(json.dumps(scores))


if __name__ == "__main__":
    main(sys.argv[1])
