"""A corpus folder is whole, or it says what is wrong with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from climb_opt.errors import UserError
from climb_opt.shards import Corpus


@pytest.fixture
def copy(tiny_corpus: Corpus, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_corpus.path, tmp_path / "corpus"))


def test_a_corpus_reads_back_what_was_written(tiny_corpus: Corpus) -> None:
    web = tiny_corpus.domain("web")
    tokens = tiny_corpus.read(web.shards[0])
    assert len(tokens) == web.tokens == tiny_corpus.tokens()["web"]
    assert tokens.dtype == np.uint16
    assert int(tokens.max()) < tiny_corpus.vocab_size
    assert np.count_nonzero(tokens == tiny_corpus.eos) == web.shards[0].documents
    with pytest.raises(ValueError, match="read-only"):
        tokens[0] = 1


def test_a_folder_without_a_manifest_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="corpus build"):
        Corpus.load(tmp_path)


def test_a_missing_shard_is_named(copy: Path) -> None:
    (copy / "domain_001.bin").unlink()
    with pytest.raises(UserError, match=r"domain_001.bin is missing"):
        Corpus.load(copy)


def test_a_truncated_shard_is_named(copy: Path) -> None:
    shard = copy / "domain_002.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"domain_002.bin .*truncated"):
        Corpus.load(copy)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{not json"])
def test_a_broken_manifest_is_refused(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="not a corpus manifest"):
        Corpus.load(copy)


@pytest.mark.parametrize("what", ["domain", "file"])
def test_a_manifest_that_names_a_domain_or_a_file_twice_is_refused(copy: Path, what: str) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    first, second, *_ = manifest["domains"]
    if what == "domain":
        second["name"] = first["name"]
    else:
        second["shards"] = first["shards"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=rf"manifest\.json has the {what} '.*' twice\."):
        Corpus.load(copy)


def test_another_schema_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(UserError, match="schema 99"):
        Corpus.load(copy)


def test_the_digest_follows_the_content_not_the_place(copy: Path, tiny_corpus: Corpus) -> None:
    assert Corpus.load(copy).digest == tiny_corpus.digest
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["domains"][0]["shards"][0]["sha256"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert Corpus.load(copy).digest != tiny_corpus.digest


def test_unknown_domains_and_targets_list_the_known(tiny_corpus: Corpus) -> None:
    with pytest.raises(UserError, match="Domains: web, code, math"):
        tiny_corpus.domain("wiki")
    with pytest.raises(UserError, match="Targets: sums"):
        tiny_corpus.target("prose")


def test_other_bytes_of_the_same_size_are_seen_by_who_verifies(copy: Path) -> None:
    Corpus.load(copy).verify()
    shard = copy / "domain_002.bin"
    shard.write_bytes(bytes(reversed(shard.read_bytes())))
    with pytest.raises(UserError, match=r"domain_002\.bin holds other bytes than were written"):
        Corpus.load(copy).verify()


def test_a_corpus_built_anew_where_it_lay_is_not_the_one_that_was_loaded(copy: Path) -> None:
    corpus = Corpus.load(copy)
    corpus.check_unchanged()
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["domains"][0]["shards"][0]["sha256"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=f"{corpus.digest}, but .* Give the same corpus"):
        corpus.check_unchanged()
