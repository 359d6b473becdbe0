"""Where does a small, excellent domain stop to pay: on all tokens, and on a part of them?

    python tests/bench/bench_repetition.py DEV/corpus.jsonl.zst --output FOLDER

The documents of `bench_repeats.py`, with a small domain that is like the target and large ones that
are not. Proxies over a grid of its share, the others in proportion: the whole run; a part of its
tokens from pools cut to that part (`repetition: matched`), so that the small domain is read as
often; and the same part of the tokens from all of the corpus (`repetition: whole`).

Every training is kept in --output, so that a call that was stopped goes on where it was.
"""

from __future__ import annotations

from harness import parser_of  # first: one thread

# isort: split

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench_repeats import (
    FRESH,
    OTHERS,
    SMALL,
    TARGET,
    Proxies,
    at_share,
    corpus_of,
    training,
)
from climb_opt import MixtureSpace
from climb_opt.text import pipe_table

BYTES = {SMALL: 48_000, **dict.fromkeys(OTHERS, 1_000_000)}  # at `TOKENS`
TOKENS = 524_288  # of the whole run
SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0)
FULL, MATCHED, WHOLE = "whole run", "matched", "whole"


def curves(
    trains: dict[str, Proxies], space: MixtureSpace, shares: Sequence[float], seeds: int
) -> dict[str, np.ndarray]:
    """Bits per byte (shares, seeds) of each way to train; seed by seed, so that early stops pay."""
    found = {name: np.zeros((len(shares), seeds)) for name in trains}
    for seed in range(seeds):
        for name, train in trains.items():
            for row, share in enumerate(shares):
                found[name][row, seed] = train(at_share(space, share), FRESH + seed)
    return found


def report(shares: Sequence[float], found: dict[str, np.ndarray], alone: float) -> str:
    """The curves, their bottoms, and what the whole run loses at them."""
    means = {name: scores.mean(axis=1) for name, scores in found.items()}
    rows = [
        [f"{share:g}", f"{share * alone:.1f}", *(f"{mean[row]:.3f}" for mean in means.values())]
        for row, share in enumerate(shares)
    ]
    lines = [*pipe_table(["share of the small domain", "its epochs", *found], rows), ""]
    full, rows = means[FULL], []
    for name, scores in found.items():
        best = int(means[name].argmin())
        by_seed = ", ".join(f"{shares[k]:g}" for k in scores.argmin(axis=0))
        rows.append([name, f"{shares[best]:g}", by_seed, f"{full[best] - full.min():+.3f}"])
    head = ["trained", "best share", "by seed", "whole run there, above its best"]
    return "\n".join(lines + pipe_table(head, rows))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("documents", type=Path, help="JSON lines, zstd, with `text` and `source`")
    parser.add_argument("--output", type=Path, default=Path("repetition"), help="to go on from")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of the whole run")
    parser.add_argument("--part", type=int, default=4, help="the rung trains on 1 / this")
    options = parser.parse_args()
    folder: Path = options.output
    tokens: int = options.tokens
    sizes = {name: size * tokens // TOKENS for name, size in BYTES.items()}
    corpus = corpus_of(options.documents, folder, {**sizes, TARGET: 40_000})
    space = MixtureSpace(corpus.tokens(), trial_tokens=tokens)
    part = 1 / options.part
    ways = {FULL: (1.0, 1.0), MATCHED: (part, part), WHOLE: (part, 1.0)}  # of tokens, of pools
    trains = {
        name: Proxies(
            folder / f"{name}-{options.part}.jsonl",
            training(corpus, folder, share, tokens=int(tokens * of), sequence=64),
        )
        for name, (of, share) in ways.items()
    }
    found = curves(trains, space, SHARES, options.seeds)
    alone = float(dict(zip(space.domains, space.epochs, strict=True))[SMALL])
    print(report(SHARES, found, alone))


if __name__ == "__main__":
    main()
