"""Looking at a corpus, and changing its domains by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from climb_opt.corpus.after import edit, show
from climb_opt.corpus.after.map import draw, points
from climb_opt.corpus.documents import Document
from climb_opt.corpus.stages.describe import names_from, top_terms
from climb_opt.corpus.stages.domains import SplitOptions
from climb_opt.corpus.stages.merge import MergeOptions
from climb_opt.errors import UserError
from climb_opt.shards import Corpus
from corpora import small_corpus, topic_documents, write_jsonl


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    write_jsonl(tmp_path / "a.jsonl", topic_documents(30))
    return small_corpus(tmp_path / "out", tmp_path / "a.jsonl", label_field="topic")


def names(corpus: Corpus) -> list[str]:
    return [d.name for d in corpus.domains]


def test_domains_are_renamed(corpus: Corpus) -> None:
    old = names(corpus)
    edited = edit.rename(corpus, {old[0]: "food", old[2]: old[0]})
    assert names(edited) == ["food", old[1], old[0], old[3]]
    assert edited.tokens()["food"] == corpus.tokens()[old[0]]
    assert edited.provenance["edits"] == [f"rename {old[0]}=food, {old[2]}={old[0]}"]
    for wrong, message in (
        ({"nothing": "x"}, "no domain 'nothing'"),
        ({"food": old[1]}, "Two domains would be called"),
        ({"food": " "}, "is empty"),
    ):
        with pytest.raises(UserError, match=message):
            edit.rename(edited, wrong)


def test_what_a_corpus_lacks_is_told_with_its_folder(tiny_corpus: Corpus) -> None:
    copied = replace(tiny_corpus, path=Path("corp 2"))
    with pytest.raises(UserError, match=r"^Corpus 'corp 2' has no domain 'nope'\."):
        copied.domain("nope")
    with pytest.raises(UserError, match=r"^Corpus 'corp 2' has no target 'nope'\."):
        copied.target("nope")


def test_merged_domains_hold_all_their_tokens(corpus: Corpus) -> None:
    old = names(corpus)
    parts = [corpus.domain(old[1]), corpus.domain(old[3])]
    expected = np.concatenate([corpus.read(p.heldout) for p in parts if p.heldout is not None])
    edited = edit.merge(corpus, "both", [old[1], old[3]])
    assert names(edited) == [old[0], "both", old[2]]
    both = edited.domain("both")
    assert both.tokens == sum(p.tokens for p in parts)
    assert both.heldout is not None
    assert np.array_equal(edited.read(both.heldout), expected)
    assert both.info["documents"] == sum(p.info["documents"] for p in parts)
    assert set(both.info["terms"]) & set(parts[1].info["terms"])
    again = edit.merge(edited, "three", ["both", old[0]])
    assert names(again) == ["three", old[2]]
    files = {p.name for p in corpus.path.glob("*.bin")}
    assert files == {s.file for s in again.streams()}


def test_an_edit_of_thousands_of_domains_is_shown_by_its_ends() -> None:
    note = f"merge rest: {', '.join(f'site-{i}' for i in range(2000))}"
    short, long = show.history({"edits": ["rename a=b", note]})
    assert short == "edited: rename a=b"
    assert long.startswith("edited: merge rest: site-0, ") and long.endswith(", site-1999")
    assert len(long) < 350


def test_dropped_domains_and_their_files_are_gone(corpus: Corpus) -> None:
    old = names(corpus)
    file = corpus.domains[1].shards[0].file
    edited = edit.drop(corpus, [old[1]])
    assert names(edited) == [old[0], old[2], old[3]]
    assert not (corpus.path / file).exists()
    assert edited.digest != corpus.digest


def test_a_mixture_needs_two_domains(corpus: Corpus) -> None:
    old = names(corpus)
    with pytest.raises(UserError, match="would leave 1 domains"):
        edit.drop(corpus, old[:3])
    with pytest.raises(UserError, match="would leave one domain"):
        edit.merge(corpus, "all", old)
    with pytest.raises(UserError, match="at least two different"):
        edit.merge(corpus, "x", [old[0], old[0]])
    with pytest.raises(UserError, match="Two domains would be called"):
        edit.merge(corpus, old[3], old[:2])
    assert names(Corpus.load(corpus.path)) == old


def test_the_summary_names_every_domain_with_its_share(corpus: Corpus) -> None:
    text = "\n".join(show.summary(corpus))
    total = sum(corpus.tokens().values())
    for domain in corpus.domains:
        (line,) = [li for li in text.splitlines() if li.startswith(domain.name)]
        assert f"{domain.tokens:,}" in line and f"{domain.tokens / total:.1%}" in line
        assert domain.info["terms"][0] in line
    assert "documents read: 120" in text and "against topic: NMI 1.000" in text
    assert "Ward tree at distance" in text
    samples = "\n".join(show.samples(corpus))
    assert all(s["id"] in samples for d in corpus.domains for s in d.info["samples"])
    assert all(domain.name in samples.splitlines() for domain in corpus.domains)


def test_the_table_of_domains_has_the_digits_that_its_figures_mean(tiny_corpus: Corpus) -> None:
    web, code, math = tiny_corpus.domains
    scores = {"advertisement": 0.00123, "informational": 4.5}
    web = replace(web, info={"quality": scores, "terms": ["cat"]})
    small = replace(math, shards=(replace(math.shards[0], tokens=5),))
    large = replace(code, shards=(replace(code.shards[0], tokens=400_000_000_000),))
    lines = show.summary(replace(tiny_corpus, domains=(web, large, small)))
    head, *rows = (line.split() for line in lines[2:6])
    assert head == ["domain", "tokens", "share", "documents", "held", "out", *scores, "terms"]
    assert rows[0][2] == "<0.01%" and rows[0][-3:] == ["0.00123", "4.50", "cat"]
    assert rows[1][1:3] == ["400,000,000,000", "100.0%"] and rows[1][-2:] == ["–", "–"]
    assert len({len(line.rstrip().removesuffix("cat").rstrip()) for line in lines[3:6]}) == 1


def test_what_became_of_the_documents_is_told_line_by_line() -> None:
    provenance = {
        "documents": 1200,
        "dropped": {"copies": 3, "near_copies": 1000},
        "unclustered": 2,
        "fewer_domains": "3 domains, not 4",
        "skipped": {"not JSON": 1, "empty": 5},
        "without": {"kind": 7},
        "damaged": ["a.gz ends early"],
        "removed": [{"tokens": 1500}, {"tokens": 500}],
        "edits": ["drop x"],
    }
    assert show.history(provenance) == [
        "documents read: 1,200; dropped: 3 copies, 1,000 near copies",
        "in no cluster: 2 documents, left out",
        "3 domains, not 4",
        "skipped: 5 empty",
        "skipped: 1 not JSON",
        "without field kind: 7 documents",
        "damaged input: a.gz ends early",
        "pruned: 2 clusters, 2,000 tokens",
        "edited: drop x",
    ]
    assert show.history({}) == []


def test_the_map_places_every_cluster_of_every_domain(corpus: Corpus, tmp_path: Path) -> None:
    found = points(corpus)
    assert found.places.shape == (len(found.clusters), 2)
    assert set(found.domain) == set(range(4))
    assert np.array_equal(found.places, points(corpus).places)
    edited = edit.merge(corpus, "$\\frac{$", names(corpus)[:2])
    edited = edit.rename(edited, {names(edited)[1]: "_hidden \u202e हिन्दी 中文"})
    assert set(points(edited).domain) == {0, 1, 2}
    draw(edited, tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_a_corpus_without_clusters_has_no_map(tiny_corpus: Corpus) -> None:
    with pytest.raises(UserError, match=r"^Corpus '/.*' has no map"):
        points(tiny_corpus)


def test_names_come_from_what_tells_domains_apart() -> None:
    samples = [
        [Document("1", "the cat purrs and the cat sleeps"), Document("2", "the cat purrs")],
        [Document("3", "the dog barks"), Document("4", "the dog barks and runs")],
    ]
    terms = top_terms(samples)
    assert set(terms[0][:2]) == {"cat", "purrs"} and set(terms[1][:2]) == {"dog", "barks"}
    assert names_from([["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c"], []]) == [
        "a-b", "a-b-c", "a-b-c-2", "domain-3",
    ]  # fmt: skip


def test_terms_are_words_of_any_script() -> None:
    texts = {
        "hindi": ("सरकार ने पानी दिया", "सरकार और पानी"),
        "thai": ("ภาษาไทย สวัสดี", "ภาษาไทย ครับ"),
        "arabic": ("العَرَبِيَّة لغة", "العَرَبِيَّة كبيرة"),
        "chinese": ("我爱北京。天气好", "他在北京"),
        "japanese": ("東京へ行く", "東京から"),
    }
    found = top_terms([[Document(t, t) for t in pair] for pair in texts.values()])
    assert dict(zip(texts, found, strict=True)) == {
        "hindi": ["पानी", "सरकार"],
        "thai": ["ภาษาไทย"],
        "arabic": ["العَرَبِيَّة"],
        "chinese": ["北京"],
        "japanese": ["東京"],
    }


def test_domains_that_hold_out_far_more_than_asked_for_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, count in (("court", 11), ("garden", 1), ("stars", 250)):
        some = [d for d in topic_documents(count, length=9) if d["topic"] == name]
        write_jsonl(tmp_path / "given" / name / "a.jsonl", some)
    given = f"domains:{tmp_path / 'given'}"
    corpus = small_corpus(tmp_path / "out", given, merge=MergeOptions(), near_duplicates=None)
    held = {d.name: d.heldout for d in corpus.domains}
    court, trained = held["court"], corpus.tokens()["court"]
    assert court is not None and held["garden"] is None
    part = 100 * court.tokens / (court.tokens + trained)
    lines = [
        f"more than 2 % is held out of court (5 of 11 documents, {part:.1f} % of its tokens): at "
        "least 8 documents, or half of fewer than 16; tokens and shares are of what is left to "
        "train on",
        "too few or too long documents to hold one out: garden (1 document)",
    ]
    assert show.held_out(corpus) == lines
    assert all(line in show.summary(corpus) and line in caplog.text for line in lines)
    split = SplitOptions(share=0)
    none = small_corpus(tmp_path / "none", given, split=split, near_duplicates=None)
    assert show.held_out(none) == []
