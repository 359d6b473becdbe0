"""A corpus in other projects' layouts. What its shards alone give, whatever they came from, is for
trainers that read tokens or text; files are numbered as domains are in the corpus, and `climb-opt
export` names the same:

    megatron      domain_000.bin, .idx; domain_000_heldout.bin, .idx
    nanotron      domain_000/000.ds, 000.ds.index: a folder of a domain's shards (a Nanoset)
    jsonl         domain_000.jsonl; domain_000_heldout.jsonl: {"text": ...} a line

The last two come with a folder `tokenizer`, as transformers reads it.

From a build's stages:

    curator       centroid=<int>/<block>.jsonl (text, id, scores) under the lowest cluster of each
                  domain; kmeans_centroids.npy; domain_<int>.bin/.idx (Megatron)
    weborganizer  documents/<block>.jsonl.zst, domains_clusters-k<n>/<block>.npy (domains, and fine
                  clusters), scores_<name>/<block>.npy, tokens/<block>.npy (counts)

Documents that a build dropped or held out for a target are left out.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt import lookup
from climb_opt.corpus.after.megatron import export_megatron, held_out_of
from climb_opt.corpus.documents import Block, Document, read_block
from climb_opt.corpus.files import load_array, save_lines
from climb_opt.corpus.folder import WORK, load_plan
from climb_opt.corpus.order import Build
from climb_opt.corpus.read.values import plain
from climb_opt.corpus.run.workspace import Workspace
from climb_opt.corpus.stages.counts import Stages, trained_on
from climb_opt.errors import UserError
from climb_opt.extras import need
from climb_opt.files import atomic, new_folder, save_array
from climb_opt.indexed import document_lengths
from climb_opt.progress import progress
from climb_opt.shards import Corpus, Stream
from climb_opt.tokenizer import corpus_tokenizer, load_tokenizer, save_tokenizer

TEXTS = 1024  # documents decoded at once


def export(corpus: Corpus, kind: str, folder: Path, *, progress: bool | None = None) -> None:
    """Write a corpus in another layout into a new folder.

    Raises:
        UserError: an unknown layout, a folder that is not empty, no documents kept.
    """
    if kind not in LAYOUTS:
        raise lookup.unknown("layout", kind, LAYOUTS)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--output {str(folder)!r} is not an empty folder; name a new one.")
    with new_folder(folder):
        _export(corpus, kind, folder, progress)


def _export(corpus: Corpus, kind: str, folder: Path, progress: bool | None) -> None:
    if kind in OF_SHARDS:
        OF_SHARDS[kind](corpus, folder)
        return
    build = Build(load_plan(corpus.path), Workspace(corpus.path / WORK, progress=progress))
    stages = build.prepare()  # all finished: this finds them
    write = export_curator if kind == "curator" else export_weborganizer
    write(corpus, build, stages, folder)


def domain_of_clusters(corpus: Corpus, build: Build) -> np.ndarray:
    """Domain of each cluster (K,), -1 for none, as edited since the build."""
    names = build.given or range(build.clusters_count)
    index = {c: i for i, domain in enumerate(corpus.domains) for c in domain.info["clusters"]}
    return np.array([index.get(name, -1) for name in names])


def export_curator(corpus: Corpus, build: Build, stages: Stages, folder: Path) -> None:
    """NeMo Curator's artefacts after merging and tokenising."""
    of_cluster = domain_of_clusters(corpus, build)
    build.decide(stages)
    lowest = [int(np.flatnonzero(of_cluster == d).min()) for d in range(of_cluster.max() + 1)]
    for index in lowest:
        (folder / f"centroid={index}").mkdir(parents=True, exist_ok=True)
    for block in build.workspace.each("export", stages.blocks):
        rows, cluster = trained_on(stages, block)
        for domain, records in _by_domain(stages, block, rows, of_cluster[cluster]):
            file = folder / f"centroid={lowest[domain]}" / f"{block.name}.jsonl"
            save_lines(file, records)
    if build.centres is not None:
        save_array(folder / "kmeans_centroids.npy", build.centres.astype(np.float32))
    export_megatron(corpus, folder, [f"domain_{index}" for index in lowest])


def export_weborganizer(corpus: Corpus, build: Build, stages: Stages, folder: Path) -> None:
    """WebOrganizer's side files beside the documents."""
    of_cluster = domain_of_clusters(corpus, build)
    domains = int(of_cluster.max()) + 1
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    for block in build.workspace.each("export", stages.blocks):
        rows, cluster = trained_on(stages, block)
        in_domain = of_cluster[cluster] >= 0
        rows, cluster = rows[in_domain], cluster[in_domain]
        kept = np.zeros(block.documents, dtype=bool)
        kept[rows] = True
        documents = read_block(stages.documents.path, block.name, kept)
        _write_packed(folder / "documents" / f"{block.name}.jsonl.zst", documents)
        lengths = load_array(stages.tokens.file(f"{block.name}.lengths.npy"))
        sides = {
            "tokens": lengths[rows] - 1,  # without the end-of-text token
            f"domains_clusters-k{len(of_cluster)}": cluster,
            # Last: where each cluster is a domain both have one name, and domains' are meant.
            f"domains_clusters-k{domains}": of_cluster[cluster].astype(np.int32),
        }
        for name, stage in stages.scores.items():
            sides[f"scores_{name}"] = load_array(stage.file(f"{block.name}.npy"))[rows]
        for name, values in sides.items():
            (folder / name).mkdir(exist_ok=True)
            save_array(folder / name / f"{block.name}.npy", np.asarray(values))


def _write_packed(file: Path, documents: Iterable[Document]) -> None:
    zstandard = need("zstandard", "WebOrganizer's layout")
    with atomic(file) as partial, zstandard.open(partial, "wb") as out:
        for document in documents:
            line = json.dumps(_record(document, document.fields), ensure_ascii=False)
            out.write(line.encode("utf-8") + b"\n")


def _by_domain(
    stages: Stages, block: Block, rows: np.ndarray, domain: np.ndarray
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    of_row = dict(zip(rows.tolist(), domain.tolist(), strict=True))
    scores = {n: load_array(s.file(f"{block.name}.npy")) for n, s in stages.scores.items()}
    records: dict[int, list[dict[str, Any]]] = {}
    for row, document in enumerate(read_block(stages.documents.path, block.name)):
        if of_row.get(row, -1) >= 0:
            known = {n: float(v[row]) for n, v in scores.items() if v[row] == v[row]}
            records.setdefault(of_row[row], []).append(_record(document, known))
    yield from sorted(records.items())


def _record(document: Document, others: dict[str, Any]) -> dict[str, Any]:
    """A document as other programs read it. A field that would take the place of the id or the text
    has an underscore behind its name, unless it is the same."""
    own = {"id": document.id, "text": document.text}
    kept = {n: v for n, v in others.items() if str(v) != own.get(n)}
    return plain({**own, **{f"{n}_" if n in own else n: v for n, v in kept.items()}})


# --- from the shards alone ------------------------------------------------------------------------


def export_nanotron(corpus: Corpus, folder: Path, *, show: bool | None = None) -> None:
    """A Nanoset for each domain: datatrove's `.ds` files are tokens as our shards are. And the
    tokenizer, of which nanotron asks the number of tokens."""
    total = sum(d.tokens for d in corpus.domains)
    with progress(total, "export", "token", large=True, show=show) as bar:
        for index, domain in enumerate(corpus.domains):
            place = folder / f"domain_{index:03d}"
            place.mkdir(parents=True)
            for number, shard in enumerate(domain.shards):
                file = place / f"{number:03d}.ds"
                ends = np.cumsum(document_lengths(corpus.read(shard), corpus.eos))
                with atomic(Path(f"{file}.index")) as partial:
                    partial.write_bytes(ends.astype("<u8").tobytes())
                with atomic(file) as partial:
                    shutil.copyfile(corpus.path / shard.file, partial)
                bar.update(shard.tokens)
    _save_tokenizer(corpus, folder / "tokenizer")


def export_jsonl(corpus: Corpus, folder: Path, *, show: bool | None = None) -> None:
    """Each domain's documents as text, decoded from its tokens; its held-out part's; and the
    tokenizer, whose folder trainers are given."""
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(s.documents for s in corpus.streams())
    with progress(total, "export", "document", large=True, show=show) as bar:
        for index, domain in enumerate(corpus.domains):
            prefix = folder / f"domain_{index:03d}"
            save_lines(Path(f"{prefix}.jsonl"), _rows(corpus, domain.shards, bar))
            if domain.heldout is not None:
                file = Path(f"{held_out_of(prefix)}.jsonl")
                save_lines(file, _rows(corpus, (domain.heldout,), bar))
    _save_tokenizer(corpus, folder / "tokenizer")


def _save_tokenizer(corpus: Corpus, folder: Path) -> None:
    """The tokenizer as a folder of transformers', which makes of a text the corpus's tokens: a text
    that spells a special token holds its letters, and the end-of-text token comes after it."""
    processors = need("tokenizers.processors", "A tokenizer for trainers")
    tokenizer = corpus_tokenizer(corpus.tokenizer_file, corpus.eos)
    end = tokenizer.id_to_token(corpus.eos)
    if end is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=["$A", end], special_tokens=[(end, corpus.eos)]
        )
    folder.mkdir()
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": end,
        "split_special_tokens": True,
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _rows(corpus: Corpus, streams: Sequence[Stream], bar: Any) -> Iterator[dict[str, str]]:
    for texts in (some for stream in streams for some in _texts(corpus, stream)):
        yield from ({"text": text} for text in texts)
        bar.update(len(texts))


def _texts(corpus: Corpus, stream: Stream) -> Iterator[list[str]]:
    """The documents of a stream as text, some at a time."""
    tokenizer = load_tokenizer(str(corpus.tokenizer_file))
    tokens = corpus.read(stream)
    ends = np.cumsum(document_lengths(tokens, corpus.eos))
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    for low in range(0, len(ends), TEXTS):
        rows = range(low, min(low + TEXTS, len(ends)))
        documents = [np.asarray(tokens[starts[row] : ends[row]]) for row in rows]
        bodies = [d[:-1] if d[-1] == corpus.eos else d for d in documents]
        yield tokenizer.decode_batch([b.tolist() for b in bodies], skip_special_tokens=False)


# What `corpus export` can write: the first two from a build's stages, the others from the shards.
LAYOUTS = {
    "curator": "NeMo Curator's: documents by centroid, and Megatron's pairs",
    "weborganizer": "WebOrganizer's side files beside the documents",
    "megatron": "Megatron's pairs domain_000.bin and .idx; also raw tokens for OLMo-core",
    "nanotron": "a folder domain_000/ of .ds files each and tokenizer/, for nanotron's Nanosets",
    "jsonl": "domain_000.jsonl of texts, tokenizer/, for Hugging Face, torchtitan, LLM Foundry",
}
OF_SHARDS: dict[str, Callable[[Corpus, Path], object]] = {
    "megatron": export_megatron,
    "nanotron": export_nanotron,
    "jsonl": export_jsonl,
}
