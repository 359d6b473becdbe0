"""Does a search stop repeating one small, excellent domain? Real proxies, on a CPU.

    python tests/bench/bench_repeats.py DEV/corpus.jsonl.zst --output FOLDER

Documents (JSON lines with `text` and `source`) make a corpus of one small domain that is like the
target and large ones that are not; a trial of the small one alone repeats it many times. Trained
over a grid of its share, the others in proportion, with seeds of their own, the target's bits per
byte say where repeating it stops to pay. Then searches train with the seeds 0, 1, ..., and what
each would keep is trained with the grid's seeds.

Every training is kept in --output, so that a call that was stopped goes on where it was, and a
search that is repeated proposes the same and trains nothing. Processes with other --first-seed may
share it; a last call with all seeds prints the tables.
"""

from __future__ import annotations

from harness import Quiet, append, parser_of, rows_of  # first: one thread

# isort: split

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import zstandard
from optuna.samplers import BaseSampler

import climb_opt
from climb_opt import ClimbSampler, MixtureSpace, SimplexGPSampler, best_mixture
from climb_opt.text import pipe_table

SMALL, TARGET = "small", "target"
LIKE = "math_word_problems"  # the source of the small domain and of the target
OTHERS = ("fiction", "encyclopedia", "statutes", "medical_qa", "movie_reviews")
BYTES = {SMALL: 1_500, TARGET: 40_000, **dict.fromkeys(OTHERS, 45_000)}
VOCABULARY = 1024
TOKENS = 32_768  # of a trial
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0)
ROUNDS = (12, 6, 6)
FRESH = 1000  # the first seed that no search trains with
# name -> sampler of space and seed, rules: what is asked of the finished search
ARMS: dict[str, tuple[Callable[[MixtureSpace, int], BaseSampler], tuple[str, ...]]] = {
    "climb, lightgbm": (lambda space, seed: _climb(space, seed, "lightgbm"), ("argbest", "auto")),
    "climb, epochs": (lambda space, seed: _climb(space, seed, "epochs"), ("argbest", "auto")),
    "simplex-gp": (lambda space, seed: SimplexGPSampler(space, seed=seed), ("auto",)),
}
Train = Callable[[Mapping[str, float], int], float]  # mixture, seed -> bits per byte


def _climb(space: MixtureSpace, seed: int, predictor: str) -> ClimbSampler:
    return ClimbSampler(space, rounds=ROUNDS, predictor=predictor, seed=seed)


# --- the corpus and its proxies ------------------------------------------------------------------


def corpus_of(
    documents: Path, folder: Path, sizes: Mapping[str, int] | None = None
) -> climb_opt.Corpus:
    """The corpus, built in `folder` where it is not there.

    Args:
        sizes: bytes of each domain and of the target.
    """
    if not (folder / "corpus" / "manifest.json").exists():
        parts = split(_read(documents), sizes or BYTES)
        for name, texts in parts.items():
            path = folder / ("" if name == TARGET else "domains") / f"{name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        climb_opt.build_corpus(
            f"domains:{folder / 'domains'}",
            folder / "corpus",
            vocab_size=VOCABULARY,
            target=(f"{TARGET}={folder / TARGET}.jsonl",),
            heldout=0.0,
            near_duplicates="off",
            workers=1,
            progress=False,
        )
    return climb_opt.Corpus.load(folder / "corpus")


def _read(path: Path) -> Iterator[tuple[str, str]]:
    with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            row = json.loads(line)
            yield row["source"], row["text"]


def split(documents: Iterator[tuple[str, str]], sizes: Mapping[str, int]) -> dict[str, list[str]]:
    """Documents of (source, text) into the domains and the target, each until it is full."""
    parts: dict[str, list[str]] = {name: [] for name in sizes}
    left = dict(sizes)
    for source, text in documents:
        wanted = (SMALL, TARGET) if source == LIKE else (source,)
        name = next((name for name in wanted if left.get(name, 0) > 0), None)
        if name is not None:
            parts[name].append(text)
            left[name] -= len(text.encode())
    return parts


class Proxies:
    """Trains a proxy of a mixture and scores it, or remembers that it did.

    Args:
        path: JSON lines of what was trained.
        train: what trains.
    """

    def __init__(self, path: Path, train: Train) -> None:
        self.path, self.train, self.trained = path, train, 0
        self.known: dict[tuple[object, ...], float] = {}

    def __call__(self, mixture: Mapping[str, float], seed: int) -> float:
        key = _key(mixture, seed)
        if key not in self.known:  # here; another process may have trained it
            rows = rows_of(self.path)
            self.known = {_key(row["mixture"], row["seed"]): row["score"] for row in rows}
        if key not in self.known:
            score = self.train(mixture, seed)
            append(self.path, {"mixture": dict(mixture), "seed": seed, "score": score})
            self.known[key], self.trained = score, self.trained + 1
        return self.known[key]


def _key(mixture: Mapping[str, float], seed: int) -> tuple[object, ...]:
    return (seed, *sorted((name, round(weight, 9)) for name, weight in mixture.items()))


def training(
    corpus: climb_opt.Corpus, folder: Path, share: float = 1.0, **changes: object
) -> Train:
    """What trains a proxy on a share of every domain and scores it.

    Args:
        changes: keys of the proxy's recipe.
    """
    from climb_opt.evaluators.heldout import HeldOutLoss
    from climb_opt.proxy.data import Sequences
    from climb_opt.proxy.group import ProxyGroup
    from climb_opt.proxy.job import Job
    from climb_opt.proxy.train import Trainer
    from climb_opt.recipes import read_proxy

    shape = {"include": "demo", "model": {"hidden": 64}, "tokens": TOKENS, "batch_tokens": 512}
    group = ProxyGroup("fp32")
    recipe = read_proxy({**shape, **changes})
    sequences = Sequences(corpus, recipe.sequence, share=share)
    trainer = Trainer(corpus, recipe, group, directory=folder, sequences=sequences)
    evaluator = HeldOutLoss(corpus, target=TARGET)

    def work(job: Job) -> float:
        outcome = trainer.train(job, Quiet())
        return evaluator.evaluate(outcome.model, group.accelerator)[f"{TARGET}/bpb"]

    return lambda mixture, seed: group.run(work, Job("trial", dict(mixture), seed))


# --- the curve and the searches ------------------------------------------------------------------


def at_share(space: MixtureSpace, share: float) -> dict[str, float]:
    """The mixture with this share of the small domain, the others in proportion."""
    prior = dict(zip(space.domains, map(float, space.prior), strict=True))
    rest = 1.0 - prior[SMALL]
    return {n: share if n == SMALL else w * (1 - share) / rest for n, w in prior.items()}


def curve(train: Train, space: MixtureSpace, shares: Sequence[float], seeds: int) -> np.ndarray:
    """Bits per byte (shares, seeds)."""
    fresh = range(FRESH, FRESH + seeds)
    return np.array([[train(at_share(space, share), seed) for seed in fresh] for share in shares])


@dataclass(frozen=True)
class Kept:
    """What a finished search would keep by a rule."""

    arm: str
    rule: str
    seed: int
    share: float  # of the small domain
    score: float  # its mean over the fresh seeds


def search(train: Train, space: MixtureSpace, arm: str, seed: int, fresh: int) -> list[Kept]:
    """One search, and the mixtures that its rules would keep, trained with the fresh seeds."""
    make, rules = ARMS[arm]
    study = optuna.create_study(sampler=make(space, seed))
    study.optimize(lambda trial: train(space.suggest(trial), seed), n_trials=sum(ROUNDS))
    found = []
    for rule in rules:
        pick = dict(best_mixture(study, rule=rule, space=space))
        scores = [train(pick, FRESH + number) for number in range(fresh)]
        found.append(Kept(arm, rule, seed, pick[SMALL], float(np.mean(scores))))
    return found


def report(space: MixtureSpace, scores: np.ndarray, kept: Sequence[Kept]) -> str:
    """The two tables."""
    alone = dict(zip(space.domains, map(float, space.epochs), strict=True))[SMALL]
    means, errors = scores.mean(axis=1), scores.std(axis=1, ddof=1) / scores.shape[1] ** 0.5
    each = zip(SHARES, means, errors, strict=True)
    rows = [[f"{x:g}", f"{x * alone:.1f}", f"{mean:.3f}", f"{off:.3f}"] for x, mean, off in each]
    lines = pipe_table(["share of the small domain", "its epochs", "bits per byte", "±"], rows)
    best = SHARES[int(means.argmin())]
    lines.append(f"\nIt bottoms at {best:g}, {best * alone:.1f} epochs.\n")
    rows = []
    for arm, rule in dict.fromkeys((one.arm, one.rule) for one in kept):
        own = [one for one in kept if (one.arm, one.rule) == (arm, rule)]
        epochs = [one.share * alone for one in own]
        by_seed, score = ", ".join(f"{e:.1f}" for e in epochs), np.mean([o.score for o in own])
        rows.append([arm, rule, f"{np.median(epochs):.1f}", by_seed, f"{score:.3f}"])
    head = ["search", "rule", "epochs, median", "by seed", "bits per byte, mean"]
    return "\n".join(lines + pipe_table(head, rows))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("documents", type=Path, help="JSON lines, zstd, with `text` and `source`")
    parser.add_argument("--output", type=Path, default=Path("repeats"), help="to go on from")
    parser.add_argument("--seeds", type=int, default=5, help="searches an arm")
    parser.add_argument("--first-seed", type=int, default=0, help="of this process: share --output")
    parser.add_argument("--fresh", type=int, default=4, help="seeds of the curve and the picks")
    options = parser.parse_args()
    corpus = corpus_of(options.documents, options.output)
    space = MixtureSpace(corpus.tokens(), trial_tokens=TOKENS)
    train = Proxies(options.output / "trained.jsonl", training(corpus, options.output))
    kept = [
        one
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for arm in ARMS
        for one in search(train, space, arm, seed, options.fresh)
    ]
    scores = curve(train, space, SHARES, options.fresh)
    print(report(space, scores, sorted(kept, key=lambda one: list(ARMS).index(one.arm))))


if __name__ == "__main__":
    main()
