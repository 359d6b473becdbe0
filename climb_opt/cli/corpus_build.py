"""`climb-opt corpus build`: its options and what it prints."""

from __future__ import annotations

import argparse
import csv
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from climb_opt.cli import offering
from climb_opt.cli.offering import offer
from climb_opt.errors import Interrupted, UserError
from climb_opt.text import storable

EPILOG = """inputs:
  docs/*.jsonl.zst  web/*.parquet  notes/     files, folders, globs; .jsonl, text (1)
  hf:name@config#split                        a Hugging Face dataset, streamed; or hf:folder
  domains:folder                              sub-folders (or files) are the domains
  weborganizer:folder#clusters-k24            documents/ with side files
  installed:                                  text of the Python installation, for a first try
  (1) plain or .gz, .zst, .bz2, .xz; UTF-8, or UTF-16 and UTF-32.
  For Megatron's .bin/.idx see `climb-opt corpus import`.

examples:
  climb-opt corpus build docs/*.jsonl.zst --output corpora/web
  climb-opt corpus build web/*.parquet --output corpora/web --domains 21 --clusters 1000
  climb-opt corpus build docs.jsonl --output corpora/docs --target prose=kind:prose
  climb-opt corpus build docs.jsonl --output corpora/docs --score quality=fasttext:quality.bin \\
      --prune 'quality>=2' --dry-run

Stop it with Ctrl-C and type it again: it continues, with the same result.
"""


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "build",
        help="documents -> domains of tokens",
        description="Documents -> domains of tokens.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="files, folders, globs or prefixed, see below"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="the corpus")
    parser.add_argument("--name", help="of the corpus (default: the output folder's)")
    parser.add_argument("--seed", type=int, default=0, help="of every draw (default: 0)")
    _add_reading(parser.add_argument_group("reading"))
    _add_domains(parser.add_argument_group("domains"))
    _add_held_out(parser.add_argument_group("held out, duplicates"))
    _add_running(parser.add_argument_group("running"))
    offer(
        parser,
        engines=offering.engines,
        encoders=offering.encoders,
        back_ends_of_k_means=offering.backends,
        precisions_of_a_model=offering.precisions,
        rules_of_prune=offering.prunings,
        kinds_of_installed=offering.installed,
    )
    parser.set_defaults(run=run)


def _add_reading(group: Any) -> None:
    group.add_argument(
        "--text-field", default="text", metavar="FIELD", help="that holds the text (default: text)"
    )
    group.add_argument(
        "--id-field", default="id", metavar="FIELD", help="that names a document (default: id)"
    )
    group.add_argument("--detokenize", metavar="TOKENIZER", help="the text field holds tokens")
    group.add_argument("--fields", default="", metavar="A,B", help="keep these fields too")
    group.add_argument("--label-field", metavar="FIELD", help="known labels to compare with")
    group.add_argument("--tokenizer", help="file, folder or hub name (default: train a BPE)")
    group.add_argument("--vocab-size", type=int, default=8192, help="of a trained tokenizer")
    group.add_argument("--eos", metavar="TOKEN", help="what ends a document (default: its own eos)")


def _add_domains(group: Any) -> None:
    group.add_argument("--domains", type=int, help="how many to make (default: 16)")
    group.add_argument("--merge-distance", type=float, help="cut the Ward tree here instead")
    group.add_argument("--clusters", type=int, help="fine clusters (default: docs/20, max 1000)")
    group.add_argument("--fit-points", type=int, help="documents k-means is fitted on")
    group.add_argument("--kmeans", default="auto", help="back end (default: auto)")
    group.add_argument("--encoder", default="tfidf", help="tfidf or a model (default: tfidf)")
    group.add_argument("--dimensions", type=int, default=64, help="of tfidf (default: 64)")
    group.add_argument("--max-tokens", type=int, help="of a document that the encoder sees")
    group.add_argument("--devices", default="", metavar="A,B", help="of a model: cuda:0,cuda:1")
    group.add_argument("--precision", default="auto", help="of a model (default: auto)")
    group.add_argument("--batch", type=int, default=64, help="documents a model takes at once (64)")
    group.add_argument(
        "--trust-remote-code", action="store_true", help="run a hub model's own code"
    )
    group.add_argument(
        "--score", action="append", default=[], metavar="NAME=KIND:WHERE",
        help="fasttext:FILE, sklearn:FILE, column:FIELD or module:function",
    )  # fmt: skip
    group.add_argument(
        "--prune", action="append", default=[], metavar="RULE", help="see below, e.g. quality>=2.5"
    )
    group.add_argument("--dry-run", action="store_true", help="show what --prune would remove")


def _add_held_out(group: Any) -> None:
    group.add_argument(
        "--heldout", type=float, default=0.02, help="share of each domain (default: .02)"
    )
    group.add_argument(
        "--heldout-tokens", type=int, default=2_000_000, help="at most, of a domain (default: 2M)"
    )
    group.add_argument("--target", action="append", default=[], metavar="NAME=FIELD:VALUE|FILES",
                       help="held out whole, never trained on")  # fmt: skip
    group.add_argument(
        "--target-share", type=float, default=0.25, help="of what matches (default: .25)"
    )
    group.add_argument(
        "--near-duplicates", default="0.8", help="least similarity, or off (default: .8)"
    )


def _add_running(group: Any) -> None:
    group.add_argument("--engine", default="local", help="local or ray (default: local)")
    group.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    group.add_argument("--part", default="1/1", metavar="I/N", help="this process's share")
    group.add_argument("--overwrite", action="store_true", help="replace another corpus there")
    group.add_argument("--no-progress", action="store_true", help="no bar, no lines")


def run(args: argparse.Namespace) -> int:
    """Build, then print the table of domains."""
    with _stoppable():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    from climb_opt.corpus.after import show
    from climb_opt.corpus.build import build, preview
    from climb_opt.corpus.options import make_plan

    plan = make_plan(options_from(args))
    progress = False if args.no_progress else None
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers must be at least 1, but is {args.workers}.")
    if args.dry_run and not args.prune:
        raise UserError("--dry-run shows what --prune would remove; give a --prune rule.")
    where = {"engine": args.engine, "workers": args.workers, "progress": progress}
    if args.dry_run:
        rows = preview(plan, args.output, **where)
        print("\n".join(show.removal(rows)))
        return 0
    part = _part(args.part)
    corpus = build(plan, args.output, part=part, overwrite=args.overwrite, **where)
    if corpus is not None:
        print("\n".join(show.summary(corpus)))
    return 0


def options_from(args: argparse.Namespace) -> Any:
    """The build's options from the parsed arguments."""
    from climb_opt.corpus.options import BuildOptions
    from climb_opt.corpus.read.source import ReadOptions
    from climb_opt.corpus.stages.cluster import ClusterOptions
    from climb_opt.corpus.stages.domains import SplitOptions
    from climb_opt.corpus.stages.embed import EmbedOptions
    from climb_opt.corpus.stages.merge import MergeOptions
    from climb_opt.corpus.stages.tokenise import TokenOptions

    return BuildOptions(
        inputs=tuple(args.inputs),
        name=storable(args.name or args.output.resolve().name),
        read=ReadOptions(args.text_field, args.id_field, _fields(args.fields), args.detokenize),
        tokens=TokenOptions(args.tokenizer, args.vocab_size, eos=args.eos),
        embed=EmbedOptions(
            encoder=args.encoder,
            dimensions=args.dimensions,
            max_tokens=args.max_tokens,
            devices=_listed(args.devices),
            precision=args.precision,
            batch=args.batch,
            trust_remote_code=args.trust_remote_code,
        ),
        cluster=ClusterOptions(args.clusters, fit_points=args.fit_points, backend=args.kmeans),
        merge=MergeOptions(args.domains, args.merge_distance),
        split=SplitOptions(args.heldout, args.heldout_tokens),
        targets=tuple(args.target),
        target_share=args.target_share,
        near_duplicates=_similarity(args.near_duplicates),
        scores=tuple(args.score),
        prune=tuple(args.prune),
        label_field=args.label_field,
        seed=args.seed,
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _fields(text: str) -> tuple[str, ...]:
    """As `_listed`; a field with a comma in its name may be put into double quotes."""
    rows = csv.reader([text], skipinitialspace=True)
    return tuple(name.strip() for row in rows for name in row if name.strip())


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


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM stops a build as Ctrl-C does: partial files are removed, finished ones kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(signum: int, frame: Any) -> None:
    raise Interrupted(f"signal {signum}")
