"""What an export names is there or said not to be, is always called the same, and loses nothing
without a word."""

from __future__ import annotations

import json
import runpy
import shutil
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from climb_opt import cli, lookup
from climb_opt.corpus.after.layouts import LAYOUTS, export
from climb_opt.corpus.after.megatron import read_pair
from climb_opt.errors import UserError
from climb_opt.exports import Handover, format_of, prepare, render, texts
from climb_opt.exports.handover import UNITS
from climb_opt.exports.prepared import distinct_slugs
from climb_opt.shards import Corpus

THIRDS = {"web": 0.2, "code": 0.3, "math": 0.5}
OWN_FORMAT = """
from climb_opt.lookup import facts


@facts(places=lambda handover: handover.paths("data/{domain}"))
def lines(handover):
    return "text"
"""
TRAINERS = [name for name in texts() if format_of(name).places is not None]


@pytest.fixture
def corpus(tiny_corpus: Corpus, tmp_path: Path) -> Corpus:
    """A corpus as the last release wrote it, without indices."""
    shutil.copytree(tiny_corpus.path, tmp_path / "c", ignore=shutil.ignore_patterns("*.idx"))
    return Corpus.load(tmp_path / "c")


def handover(mixture: Mapping[str, float] = THIRDS, **settings: Any) -> Handover:
    return prepare(mixture, study="demo", **settings)


def paths_of(order: Handover) -> dict[str, str | None]:
    return {source.name: source.path for source in order.sources}


def test_help_names_every_format_and_rule(capsys: pytest.CaptureFixture[str]) -> None:
    for words, known in (
        (["export"], [*lookup.KINDS["format"], *lookup.KINDS["rule"], "{index}"]),
        (["corpus", "export"], LAYOUTS),
    ):
        with pytest.raises(SystemExit):
            cli.parser().parse_args([*words, "--help"])
        shown = capsys.readouterr().out
        assert not [name for name in known if name not in shown]


# --- names ---------------------------------------------------------------------------------------


def test_paths_depend_on_the_corpus_not_on_weights() -> None:
    inventory = {"C": 3000, "C#": 2500, "C++": 2000, "web": 4000}
    template = "/data/{index}-{domain}"
    first = handover(
        {"web": 0.3, "C": 0.3, "C#": 0.25, "C++": 0.15}, inventory=inventory, template=template
    )
    second = handover(
        {"C++": 0.25, "C#": 0.15, "web": 0.6, "C": 0.0}, inventory=inventory, template=template
    )
    found, again = paths_of(first), paths_of(second)
    assert again == {name: found[name] for name in again}
    assert len(set(found.values())) == 4
    assert found["web"] == "/data/003-web"
    assert [(found[d] or "")[:10] for d in ("C", "C#", "C++")] == [
        "/data/000-", "/data/001-", "/data/002-"
    ]  # fmt: skip


names = st.lists(st.text(alphabet="aAäÄá#+ /-.ßé", max_size=4) | st.text(), unique=True)


@given(names, st.randoms())
def test_slugs_are_safe_distinct_on_every_file_system_and_stay(known: list[str], rng: Any) -> None:
    slugs = distinct_slugs(known)
    alike = {unicodedata.normalize("NFKD", s.casefold()) for s in slugs.values()}
    assert len(alike) == len(known)
    assert not any(
        set(s) & set("/\\ *?:\"'\n\0") or s.startswith((".", "-")) for s in slugs.values()
    )
    shuffled = rng.sample(known, len(known))
    assert distinct_slugs(shuffled) == slugs


def test_names_that_differ_by_case_accent_or_composition_are_told_apart() -> None:
    for alike in (["Web", "web"], ["café", "cafe"], ["caf\u00e9", "cafe\u0301"], ["a/b", "a b"]):
        slugs = distinct_slugs([*alike, "other"])
        assert slugs["other"] == "other"
        bare = {s.encode("ascii", "ignore").lower() for s in slugs.values()}
        assert len(bare) == 3, slugs


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("data/all", r"gives several domains one path; put \{domain\}"),
        ("data/{name}", r"unknown field \{name\}"),
        ("data/{}/{domain}", r"unknown field \{\}"),
        ("data/{index:03d}", r"unknown field \{index:03d\}"),
    ],
)
def test_templates_that_do_not_tell_domains_apart_are_refused(template: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        handover(template=template)


def test_a_field_inside_a_name_is_not_filled_in_again() -> None:
    order = handover({"{index}": 0.5, "b": 0.5}, template="x/{domain}")
    assert set(paths_of(order).values()) == {"x/index", "x/b"}


# --- shares --------------------------------------------------------------------------------------


def test_a_share_too_small_to_write_is_named_in_text_and_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mixture = {"web": 1 - 7e-6, "tiny": 1e-8, "small": 7e-6 - 1e-8}
    for name in texts():
        caplog.clear()
        text = render(name, handover(mixture))
        assert "1 domain left out" in caplog.text and "tiny (1e-08)" in caplog.text
        assert "tiny" in text or name == "megatron"  # whose file has no comments
    assert json.loads(render("json", handover(mixture)))["left_out"] == {"tiny": 1e-8}


@pytest.mark.parametrize("share", [4e-7, 6e-7])
def test_equal_shares_are_kept_or_left_out_alike(
    share: float, caplog: pytest.LogCaptureFixture
) -> None:
    mixture = {"web": 1 - 500 * share, **{f"d{k}": share for k in range(500)}}
    order = handover(mixture)
    render("yaml", order)
    assert sum(s.units for s in order.sources) == UNITS
    if share < 5e-7:
        assert len(order.sources) == 1
        assert "500 domains left out, together 0.0002 of the run" in caplog.text
        assert "d11 (4e-07) and 488 more" in caplog.text
    else:
        assert {s.units for s in order.sources[1:]} == {1} and len(order.sources) == 501
        assert not caplog.text


def test_a_mixture_and_a_corpus_of_other_domains_are_said(
    corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    render("yaml", handover({"web": 0.5, "code": 0.5}, corpus=corpus))
    assert "1 domain of the corpus not in the mixture, which weigh nothing: math" in caplog.text
    with pytest.raises(UserError, match=r"no domain 'legal'. Domains: web, code, math"):
        handover({"web": 0.5, "legal": 0.5}, corpus=corpus)
    with pytest.raises(UserError, match=r"no domain 'legal'. Domains: web"):
        handover({"web": 0.5, "legal": 0.5}, inventory={"web": 10})


# --- places --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["megatron", "nemo"])
def test_a_blend_of_the_corpus_can_be_opened(name: str, corpus: Corpus) -> None:
    text = render(name, handover(corpus=corpus))
    words = text.split() if name == "megatron" else yaml.safe_load(text)["data"]["paths"]
    for weight, prefix in zip(words[::2], words[1::2], strict=True):
        domain = next(d for d in THIRDS if THIRDS[d] == float(weight))
        pair = read_pair(Path(prefix))
        assert np.array_equal(pair.tokens, corpus.read(corpus.domain(domain).shards[0]))


@pytest.mark.parametrize("name", TRAINERS)
def test_what_the_named_command_makes_is_what_the_text_names(
    name: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    apart = replace(handover(inventory=corpus.tokens()), corpus_path="my corpus")
    text = render(name, apart)
    layout = format_of(name).layout
    said = f"climb-opt corpus export 'my corpus' --format {layout} --output data"
    assert "3 of 3 paths not found here" in caplog.text and said in caplog.text
    assert said in text or name == "megatron"
    export(corpus, layout, Path("data"))
    if name == "mosaicml":  # a further command, of LLM Foundry's, makes these of the JSON lines
        assert "llmfoundry data_prep convert_dataset_json" in text
        for index in range(3):
            assert Path(f"data/domain_{index:03d}.jsonl").is_file()
            place = Path(f"data/domain_{index:03d}/train")
            place.mkdir(parents=True)
            (place / "index.json").write_text("{}")
    caplog.clear()
    assert render(name, apart) and "not found" not in caplog.text


def test_a_format_whose_data_no_command_makes_names_none(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    (tmp_path / "own_format.py").write_text(OWN_FORMAT, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    render("own_format:lines", replace(handover(inventory=corpus.tokens()), corpus_path="c"))
    assert "3 of 3 paths not found here" in caplog.text and "corpus export" not in caplog.text
    assert "Say with --path where the data is." in caplog.text


def test_paths_of_a_template_are_looked_for(
    corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    render("megatron", handover(corpus=corpus, template=str(tmp_path / "{domain}_text")))
    assert "3 of 3 paths not found here" in caplog.text and "corpus export" not in caplog.text
    assert not list(corpus.path.glob("*.idx"))
    caplog.clear()
    export(corpus, "megatron", tmp_path / "out")
    render("megatron", handover(corpus=corpus, template=str(tmp_path / "out/domain_{index}")))
    render("olmo-core", handover(template="s3://bucket/{domain}/*.npy", tokens=10**6))
    assert "not found" not in caplog.text


def test_texts_of_the_domains_are_their_documents(corpus: Corpus, tmp_path: Path) -> None:
    export(corpus, "jsonl", tmp_path / "data")
    for index, domain in enumerate(corpus.domains):
        lines = (tmp_path / "data" / f"domain_{index:03d}.jsonl").read_text().splitlines()
        texts = [json.loads(line)["text"] for line in lines]
        assert len(texts) == sum(s.documents for s in domain.shards)
        assert sum(len(t.encode()) for t in texts) == sum(s.bytes for s in domain.shards)
        assert (tmp_path / "data" / f"domain_{index:03d}_heldout.jsonl").is_file()


def test_nanosets_are_the_shards_with_the_ends_of_their_documents(
    corpus: Corpus, tmp_path: Path
) -> None:
    export(corpus, "nanotron", tmp_path / "data")
    shard = corpus.domain("code").shards[0]
    place = tmp_path / "data" / "domain_001"
    tokens = np.fromfile(place / "000.ds", dtype="<u2")
    ends = np.fromfile(place / "000.ds.index", dtype="<u8").astype(int)
    assert np.array_equal(tokens, corpus.read(shard)) and len(ends) == shard.documents
    assert np.all(tokens[ends - 1] == corpus.eos) and ends[-1] == len(tokens)


def test_datatrove_reads_our_nanosets(corpus: Corpus, tmp_path: Path) -> None:
    reader = pytest.importorskip("datatrove.utils.dataset")
    export(corpus, "nanotron", tmp_path / "data")
    data = reader.DatatroveFolderDataset(
        str(tmp_path / "data" / "domain_001"), 16, "*.ds", token_size=2, return_positions=True
    )
    tokens = corpus.read(corpus.domain("code").shards[0])
    assert len(data) == len(tokens) // 17
    assert np.array_equal(data[3]["input_ids"].numpy(), tokens[51:68])


# --- budgets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer_is_told_the_length_of_the_run(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = render(name, handover(tokens=40_000_000_001, sequence=2048))
    assert "For 40000000001 tokens:" in caplog.text
    count = "requested_tokens=40000000001" if name == "olmo-core" else "19531251"
    assert count in caplog.text and (count in text or name == "megatron")
    if name == "mosaicml":
        assert yaml.safe_load(text)["train_loader"]["dataset"]["epoch_size"] == 19_531_251


def test_python_exports_count_their_steps(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    module = tmp_path / "mixture_of_demo.py"
    module.write_text(render("huggingface", handover(tokens=10**9)), encoding="utf-8")
    assert runpy.run_path(str(module))["steps"](256) == -(-(10**9) // (2048 * 256))
    module.write_text(render("huggingface", handover()), encoding="utf-8")
    with pytest.raises(ValueError, match="export with --tokens"):
        runpy.run_path(str(module))["steps"](256)


def test_hugging_face_draws_documents_for_shares_of_tokens(corpus: Corpus, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    export(corpus, "jsonl", tmp_path / "data")
    order = handover(corpus=corpus, template=str(tmp_path / "data" / "domain_{index}.jsonl"))
    module = tmp_path / "mixture_of_demo.py"
    module.write_text(render("huggingface", order), encoding="utf-8")
    found = runpy.run_path(str(module))
    for name, tokens in found["TOKENS_A_DOCUMENT"].items():
        shards = corpus.domain(name).shards
        assert tokens == pytest.approx(shards[0].tokens / shards[0].documents, rel=1e-5)
    stream = found["mixture"](seed=1)
    drawn = [sorted(row["text"].split())[0] for row, _ in zip(stream, range(2500), strict=False)]
    counts = {"web": drawn.count("a"), "code": drawn.count("def"), "math": drawn.count("plus")}
    tokens = {d: counts[d] * found["TOKENS_A_DOCUMENT"][d] for d in counts}
    for name, weight in THIRDS.items():
        assert tokens[name] / sum(tokens.values()) == pytest.approx(weight, abs=0.03)


def test_what_repeats_and_what_is_below_a_sequence_is_said(
    corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    mixture = {"web": 0.001, "code": 0.199, "math": 0.8}
    render("megatron", handover(mixture, corpus=corpus, tokens=20_000, sequence=64))
    assert "Read more than once in 20k tokens: math 5.6 times" in caplog.text
    assert "1 domain with less than one sequence of 64 tokens" in caplog.text
    assert "web (20 tokens)" in caplog.text


def test_what_olmo_core_drops_of_each_file_is_computed(
    corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    text = render("olmo-core", handover(corpus=corpus, tokens=24_000, sequence=1000))
    tokens = corpus.domain("math").tokens  # 2859: of five passes each 859 are dropped
    lost = 12_000 - 5 * (tokens // 1000) * 1000
    assert f"math {lost / 1000:.3g}k" in text and "in each repetition" in caplog.text
    caplog.clear()
    render("olmo-core", handover(corpus=corpus, tokens=5_000, sequence=10))
    assert "OLMo-core reads" not in caplog.text
    render("olmo-core", handover(corpus=corpus))
    assert "Repetition is not stated: give --tokens" in caplog.text
