"""Materialised mixtures are exact over all domains together, and documents are cut only in need."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from climb_opt.errors import UserError
from climb_opt.exports import prepare
from climb_opt.exports.documents import fill
from climb_opt.exports.materialise import materialise
from climb_opt.shards import Corpus, Domain, Stream


def corpus_of(folder: Path, lengths: dict[str, list[int]]) -> Corpus:
    """Domains whose documents have these lengths, of one token each (its domain's), and the end."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text("{}")
    domains = []
    for place, (name, some) in enumerate(lengths.items()):
        documents = [np.append(np.full(n - 1, place + 1), 0) for n in some]
        tokens = np.concatenate(documents).astype("<u2")
        tokens.tofile(folder / f"{place}.bin")
        domains.append(Domain(name, (Stream(f"{place}.bin", len(tokens), len(some), 1, name),)))
    return Corpus(folder, "made", tuple(domains), {}, "uint16", 600, 0)


def tokens_by_domain(folder: Path, domains: int) -> np.ndarray:
    """Tokens of each domain, the end token of a document counted with what is before it."""
    tokens = np.fromfile(folder / "mixture.bin", dtype="<u2")
    ends = np.flatnonzero(tokens == 0)
    owner = tokens.copy()
    owner[ends] = tokens[ends - 1]
    return np.bincount(owner, minlength=domains + 1)[1:]


def test_hundreds_of_domains_together_are_within_a_document(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(300, 0.5))
    mixture = {f"d{k}": float(w) for k, w in enumerate(shares)}
    corpus = corpus_of(tmp_path / "c", {d: [100] * 7 for d in mixture})  # no two lengths to choose
    order = prepare(mixture, study="s", corpus=corpus, tokens=50_000)
    written = materialise(order, corpus, tmp_path / "out")
    found = tokens_by_domain(tmp_path / "out", 300) / 50_000
    wanted = {s.name: s.weight for s in order.sources}
    apart = [abs(found[k] - wanted.get(f"d{k}", 0.0)) * 50_000 for k in range(300)]
    assert max(apart) < 2.01 and sum(apart) <= 2 * 100
    assert 50_000 - 100 <= written.total <= 50_000
    facts = json.loads((tmp_path / "out" / "mixture.json").read_text())
    assert sum(d["cut"] for d in facts["domains"].values()) == sum(written.cut.values()) > 100


def test_documents_of_many_lengths_fill_a_budget_uncut(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lengths = {name: rng.integers(2, 900, 120).tolist() for name in ("a", "b", "c")}
    corpus = corpus_of(tmp_path / "c", lengths)
    order = prepare({"a": 0.61, "b": 0.07, "c": 0.32}, study="s", corpus=corpus, tokens=123_457)
    written = materialise(order, corpus, tmp_path / "out")
    assert written.total == 123_457 and not sum(written.cut.values())
    assert written.tokens == {"a": 75_309, "b": 8_642, "c": 39_506}
    assert written.epochs["a"] > 1


def test_every_prefix_is_near_the_mixture(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "c", {f"d{k}": [50] * 40 for k in range(20)})
    mixture = {f"d{k}": 0.9 if k == 0 else 0.1 / 19 for k in range(20)}
    materialise(prepare(mixture, study="s", corpus=corpus, tokens=40_000), corpus, tmp_path / "out")
    tokens = np.fromfile(tmp_path / "out" / "mixture.bin", dtype="<u2")
    for prefix in (2_000, 10_000, 20_000):
        share = np.count_nonzero(tokens[:prefix] == 1) / np.count_nonzero(tokens[:prefix])
        assert share == pytest.approx(0.9, abs=0.03)


def test_a_budget_too_small_for_a_domain_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = corpus_of(tmp_path / "c", {"a": [10], "b": [10]})
    for tokens in (1, 2, 3):
        order = prepare({"a": 0.99, "b": 0.01}, study="s", corpus=corpus, tokens=tokens)
        written = materialise(order, corpus, tmp_path / str(tokens))
        assert written.total == (0 if tokens == 1 else tokens)
    assert "Nothing written of b: the budget is too small." in caplog.text


def test_a_domain_without_a_document_is_refused(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "c", {"a": [10]})
    empty = Domain("none", (Stream("x.bin", 0, 0, 0, ""),))
    both = Corpus(corpus.path, "c", (*corpus.domains, empty), {}, "uint16", 600, 0)
    order = prepare({"a": 0.5, "none": 0.5}, study="s", corpus=both, tokens=100)
    with pytest.raises(UserError, match="'none' holds no whole document"):
        materialise(order, both, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.data())
def test_rows_fill_a_quota_as_far_as_they_can(lengths: list[int], data: st.DataObject) -> None:
    sizes = np.array(lengths)
    quota = data.draw(st.integers(0, int(sizes.sum()) - 1))
    order = np.random.default_rng(0).permutation(len(sizes))
    rows, gap, spare = fill(order, sizes, quota)
    assert len(set(rows.tolist())) == len(rows) and sizes[rows].sum() + gap == quota
    assert spare not in rows and (gap == 0 or sizes[spare] > gap)
    unused = np.setdiff1d(order, rows)
    assert gap == 0 or sizes[unused].min() > gap
