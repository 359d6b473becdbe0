"""`climb-opt corpus ...`: build a corpus, look at it, edit it, hand it on."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from climb_opt.cli import corpus_build
from climb_opt.cli.arguments import folder
from climb_opt.cli.offering import offer, table_in
from climb_opt.errors import UserError
from climb_opt.text import storable, storable_value

if TYPE_CHECKING:
    from climb_opt.shards import Corpus


def add(subparsers: Any) -> None:
    """Add the group to the command line."""
    group = subparsers.add_parser("corpus", help="build a corpus, look at it, edit it")
    commands = group.add_subparsers(metavar="COMMAND", required=True)
    corpus_build.add(commands)
    _add_show(commands)
    _add_edits(commands)
    _add_exchange(commands)


def _add_show(commands: Any) -> None:
    show = _command(commands, "show", "domains with tokens, share, quality, terms", _show)
    show.add_argument("--samples", action="store_true", help="sample documents of every domain")
    show.add_argument("--map", type=Path, metavar="FILE.png", help="draw the clusters in 2-D")
    show.add_argument(
        "--verify", action="store_true", help="first read all files and compare their SHA-256"
    )
    show.add_argument("--json", action="store_true", help="the manifest's content")


def _add_edits(commands: Any) -> None:
    rename = _command(commands, "rename", "give domains other names", _rename)
    rename.add_argument("names", nargs="+", metavar="OLD=NEW", help="one pair a domain")
    merge = _command(commands, "merge", "make one domain of several", _merge)
    merge.add_argument("name", metavar="NEW", help="the joint domain's name")
    merge.add_argument("domains", nargs="+", metavar="DOMAIN", help="those to join, by name")
    drop = _command(commands, "drop", "leave domains out and delete their tokens", _drop)
    drop.add_argument("domains", nargs="+", metavar="DOMAIN", help="by name")
    clean = _command(commands, "clean", "delete the build's stages, keep the corpus", _clean)
    clean.add_argument("--yes", action="store_true", help="do not ask")


def _add_exchange(commands: Any) -> None:
    export = _command(commands, "export", "write it in another project's layout", _export)
    offer(export, formats=table_in("climb_opt.corpus.after.layouts:LAYOUTS"))
    export.add_argument("--format", required=True, help="see below")
    export.add_argument(
        "--output", required=True, type=folder, metavar="FOLDER", help="a new or empty folder"
    )
    ready = commands.add_parser("import", help="ready Megatron .bin/.idx files -> a corpus")
    ready.add_argument("files", nargs="+", metavar="FILE.bin", help="a domain each")
    ready.add_argument("--tokenizer", required=True, help="what the tokens were made with")
    ready.add_argument(
        "--output", required=True, type=folder, metavar="FOLDER", help="the corpus to make"
    )
    ready.add_argument("--heldout", type=float, default=0.02, help="share of the documents")
    ready.add_argument("--eos", help="what ends a document (default: its own eos)")
    ready.add_argument("--seed", type=int, default=0, help="of what is held out (default: 0)")
    ready.set_defaults(run=_import)


def _command(commands: Any, name: str, text: str, run: Callable[..., None]) -> Any:
    """A command on a corpus: `run(corpus, args)`."""
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("corpus", type=Path, metavar="CORPUS", help="its folder")

    def load_and_run(args: argparse.Namespace) -> None:
        from climb_opt.shards import Corpus

        run(Corpus.load(args.corpus), args)

    parser.set_defaults(run=load_and_run)
    return parser


# --- commands ---------------------------------------------------------------------------------


def _show(corpus: Corpus, args: argparse.Namespace) -> None:
    from climb_opt.corpus.after import show

    if args.verify:
        corpus.verify()
    if args.json:
        data = storable_value({**asdict(corpus), "path": str(corpus.path)})
        print(json.dumps(data, indent=1, ensure_ascii=False))
    else:
        lines = show.summary(corpus) + (show.samples(corpus) if args.samples else [])
        print("\n".join(lines))
    if args.map is not None:
        from climb_opt.corpus.after.map import draw

        draw(corpus, args.map)


def _rename(corpus: Corpus, args: argparse.Namespace) -> None:
    from climb_opt.corpus.after.edit import rename

    names: dict[str, str] = {}
    for text in args.names:
        old, new = _old_and_new(text, [d.name for d in corpus.domains])
        if old in names:
            raise UserError(f"{text!r}: {old!r} is given two names.")
        names[old] = new
    _print_domains(rename(corpus, names))


def _old_and_new(text: str, domains: Sequence[str]) -> tuple[str, str]:
    """The two sides of OLD=NEW, either of which may hold "=" itself."""
    places = [i for i, letter in enumerate(text) if letter == "="]
    if not places:
        raise UserError(f"{text!r}: expected OLD=NEW.")
    pairs = [(text[:i], text[i + 1 :]) for i in places if text[:i] in domains]
    if len(pairs) > 1:
        ways = " or ".join(f"{old!r} to {new!r}" for old, new in pairs)
        raise UserError(
            f"{text!r}: rename {ways}? Give {pairs[0][0]!r} another name first, and it is clear."
        )
    return pairs[0] if pairs else (text[: places[0]], text[places[0] + 1 :])


def _merge(corpus: Corpus, args: argparse.Namespace) -> None:
    from climb_opt.corpus.after.edit import merge

    _print_domains(merge(corpus, args.name, args.domains))


def _drop(corpus: Corpus, args: argparse.Namespace) -> None:
    from climb_opt.corpus.after.edit import drop

    _print_domains(drop(corpus, args.domains))


def _clean(corpus: Corpus, args: argparse.Namespace) -> None:
    from climb_opt.corpus.folder import WORK

    work = corpus.path / WORK
    size = sum(f.stat().st_size for f in work.rglob("*") if f.is_file())
    if not args.yes:
        print(f"{work} holds {size / 1e6:,.0f} MB of stages: needed for exports of documents and")
        print("for building again with other options. Type the command with --yes to delete it.")
        return
    shutil.rmtree(work, ignore_errors=True)
    print(f"{size / 1e6:,.0f} MB deleted.")


def _export(corpus: Corpus, args: argparse.Namespace) -> None:
    from climb_opt.corpus.after.layouts import export

    export(corpus, args.format, args.output)
    print(f"{args.output} written.")


def _import(args: argparse.Namespace) -> None:
    from climb_opt.corpus.after.megatron import import_megatron

    corpus = import_megatron(
        args.files,
        args.tokenizer,
        args.output,
        name=storable(args.output.resolve().name),
        share=args.heldout,
        eos=args.eos,
        seed=args.seed,
    )
    _print_domains(corpus)


def _print_domains(corpus: Corpus) -> None:
    from climb_opt.corpus.after.show import summary

    print("\n".join(summary(corpus)))
