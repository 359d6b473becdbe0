"""`climb-opt corpus ...`: build a corpus and look at it."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import Any

from climb_opt.errors import Interrupted, UserError

BUILD_EPILOG = """examples:
  climb-opt corpus build docs/*.jsonl.zst --output corpora/web
  climb-opt corpus build web/*.parquet --output corpora/web --domains 21 --clusters 1000
  climb-opt corpus build installed: --output corpora/demo --domains 8 --target prose=kind:prose
  climb-opt corpus build domains:climblab --output corpora/climblab --tokenizer gpt2

Stop it with Ctrl-C and type it again: it continues.
"""


def add(subparsers: Any) -> None:
    """Add the group to the command line."""
    group = subparsers.add_parser("corpus", help="build a corpus, look at it, edit it")
    commands = group.add_subparsers(metavar="COMMAND", required=True)
    build = commands.add_parser(
        "build",
        help="documents -> domains of tokens",
        epilog=BUILD_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_build(build)
    build.set_defaults(run=run_build)


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders, globs, kind:")
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--name", help="of the corpus (default: the output folder's)")
    parser.add_argument("--seed", type=int, default=0)
    read = parser.add_argument_group("reading")
    read.add_argument("--text-field", default="text")
    read.add_argument("--id-field", default="id")
    read.add_argument("--label-field", help="known labels, to hold the domains against")
    tokens = parser.add_argument_group("tokens")
    tokens.add_argument("--tokenizer", help="file, folder or hub name (default: train a BPE)")
    tokens.add_argument("--vocab-size", type=int, default=8192)
    tokens.add_argument("--eos", help="the tokenizer's end-of-text token")
    clusters = parser.add_argument_group("domains")
    clusters.add_argument("--encoder", default="tfidf", help="tfidf, or sentence-transformers")
    clusters.add_argument("--clusters", type=int, help="fine clusters (default: docs/20, <= 1000)")
    clusters.add_argument("--fit-points", type=int, help="documents k-means is fitted on")
    clusters.add_argument("--domains", type=int, help="domains to merge into (default: 16)")
    clusters.add_argument("--merge-distance", type=float, help="cut the Ward tree here instead")
    held = parser.add_argument_group("held out")
    held.add_argument("--heldout", type=float, default=0.02, help="share of every domain")
    held.add_argument("--near-duplicates", default="0.8", help="similarity, or off")
    held.add_argument("--target", action="append", default=[], help="NAME=FIELD:VALUE or =FILES")
    held.add_argument("--target-share", type=float, default=0.25)
    run = parser.add_argument_group("running")
    run.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    run.add_argument("--part", default="1/1", metavar="I/N", help="this process's share")
    run.add_argument("--overwrite", action="store_true", help="replace another corpus there")
    run.add_argument("--no-progress", action="store_true")


def run_build(args: argparse.Namespace) -> int:
    """Build, then print the table of domains."""
    from climb_opt.corpus.build import build
    from climb_opt.corpus.options import make_plan

    signal.signal(signal.SIGTERM, _stop)
    plan = make_plan(_options(args))
    corpus = build(
        plan,
        args.output,
        part=_part(args.part),
        workers=args.workers,
        progress=False if args.no_progress else None,
        overwrite=args.overwrite,
    )
    for domain in corpus.domains if corpus else ():
        print(domain.name, domain.tokens, domain.info.get("terms"))
    return 0


def _options(args: argparse.Namespace) -> Any:
    from climb_opt.corpus.cluster import ClusterOptions
    from climb_opt.corpus.domains import SplitOptions
    from climb_opt.corpus.embed import EmbedOptions
    from climb_opt.corpus.merge import MergeOptions
    from climb_opt.corpus.options import BuildOptions
    from climb_opt.corpus.readers import ReadOptions
    from climb_opt.corpus.tokenise import TokenOptions

    return BuildOptions(
        inputs=tuple(args.inputs),
        name=args.name or args.output.resolve().name,
        read=ReadOptions(args.text_field, args.id_field),
        tokens=TokenOptions(args.tokenizer, args.vocab_size, eos=args.eos),
        embed=EmbedOptions(args.encoder),
        cluster=ClusterOptions(args.clusters, fit_points=args.fit_points),
        merge=MergeOptions(args.domains, args.merge_distance),
        split=SplitOptions(args.heldout),
        targets=tuple(args.target),
        target_share=args.target_share,
        near_duplicates=_similarity(args.near_duplicates),
        label_field=args.label_field,
        seed=args.seed,
    )


def _similarity(text: str) -> float | None:
    if text == "off":
        return None
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--near-duplicates must be a number or off, but is {text!r}.") from None


def _part(text: str) -> tuple[int, int]:
    index, _, parts = text.partition("/")
    if not (index.isdigit() and parts.isdigit() and 1 <= int(index) <= int(parts)):
        raise UserError(f"--part must be I/N with 1 <= I <= N, but is {text!r}.")
    return int(index), int(parts)


def _stop(signum: int, frame: Any) -> None:
    raise Interrupted(f"signal {signum}")
