"""Scorers, rules, and what pruning removes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climb_opt.corpus.build import preview
from climb_opt.corpus.documents import Document
from climb_opt.corpus.options import make_plan
from climb_opt.corpus.stages.cluster import ClusterOptions
from climb_opt.corpus.stages.pruning import Rule, parse_rule
from climb_opt.corpus.stages.scores import fasttext_text, load_scorer, parse_scorer
from climb_opt.errors import UserError
from corpora import TOPICS, small_corpus, small_options, topic_documents, write_jsonl


def graded(path: Path, **more: Any) -> Path:
    """Documents with a grade: kitchen 1, stars 4, court 5, garden 2."""
    grades = {"kitchen": 1, "stars": 4, "court": 5, "garden": 2}
    documents = [{**d, "grade": grades[d["topic"]], **more} for d in topic_documents(30)]
    return write_jsonl(path, documents)


def topics_left(corpus: Any) -> set[str]:
    terms = {t for d in corpus.domains for t in d.info["terms"]}
    return {topic for topic, words in TOPICS.items() if terms & set(words.split())}


def test_clusters_below_a_threshold_are_removed_with_the_reason(tmp_path: Path) -> None:
    corpus = small_corpus(
        tmp_path / "out",
        graded(tmp_path / "a.jsonl"),
        scores=("quality=column:grade",),
        prune=("quality>=3",),
    )
    assert topics_left(corpus) == {"stars", "court"}
    removed = corpus.provenance["removed"]
    assert removed and all("quality is" in r["reason"] and "< 3" in r["reason"] for r in removed)
    assert {round(d.info["quality"]["quality"]) for d in corpus.domains} == {4, 5}
    for domain in corpus.domains:  # no document of a removed cluster is in it
        streams = [*domain.shards, *([domain.heldout] if domain.heldout else [])]
        assert sum(stream.documents for stream in streams) == domain.info["documents"]


def test_nothing_is_removed_unless_asked(tmp_path: Path) -> None:
    corpus = small_corpus(
        tmp_path / "out", graded(tmp_path / "a.jsonl"), scores=("quality=column:grade",)
    )
    assert topics_left(corpus) == {"kitchen", "stars", "court", "garden"}
    assert corpus.provenance["removed"] == []


def test_a_dry_run_shows_what_would_go_and_writes_no_corpus(tmp_path: Path) -> None:
    options = small_options(
        graded(tmp_path / "a.jsonl"), scores=("quality=column:grade",), prune=("quality>=1.5",)
    )
    rows = preview(make_plan(options), tmp_path / "out", progress=False)
    assert rows and all("flour" in r["samples"][0]["text"] or r["samples"] for r in rows)
    assert sum(r["documents"] for r in rows) == 30
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_pruning_everything_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"0 of 12 clusters are left.*at least two"):
        small_corpus(
            tmp_path / "out",
            graded(tmp_path / "a.jsonl"),
            scores=("quality=column:grade",),
            prune=("quality>=6",),
        )


# --- rules ------------------------------------------------------------------------------------


def test_presets_are_those_of_the_paper_and_of_nemo() -> None:
    names = ["quality", "advertisement", "informational", "educational", "cultural"]
    paper, nemo = parse_rule(["paper"], names), parse_rule(["nemo"], names)
    assert paper is not None and nemo is not None
    level = dict.fromkeys(names, 3.0)
    assert paper.reason(level) is None
    assert paper.reason({**level, "quality": 1.9}) is not None  # the mean falls below 3
    assert paper.reason({**level, "quality": 1.9, "educational": 4.2}) is None
    assert nemo.reason({**level, "advertisement": 1.9}) == "advertisement is 1.90 < 2"
    assert nemo.reason({**level, "cultural": 1.0}) is None


def test_thresholds_have_directions() -> None:
    rule = parse_rule(["ads<=1.5", "quality >= 2"], ["ads", "quality"])
    assert rule == Rule({"quality": 2.0}, {"ads": 1.5})
    assert rule.reason({"ads": 1.6, "quality": 5}) == "ads is 1.60 > 1.5"
    assert rule.reason({"ads": 1.5, "quality": 2.0}) is None
    assert parse_rule(["ads>=-.5", "quality<=3."], ["ads", "quality"]) == Rule(
        {"ads": -0.5}, {"quality": 3.0}
    )
    assert parse_rule([], ["quality"]) is None


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["quality>3"], "expected paper, nemo, or a threshold"),
        (["quality>=1.2.3"], "'quality>=1.2.3': expected paper, nemo, or a threshold"),
        (["quality>=."], "expected paper, nemo, or a threshold"),
        (["style>=3"], "'style', which no --score gives. Scores: quality"),
        (["nemo"], None),
    ],
)
def test_rules_that_make_no_sense(rules: list[str], message: str | None) -> None:
    if message is None:
        with pytest.raises(UserError, match="needs scores named"):
            parse_rule(rules, ["other"])
    else:
        with pytest.raises(UserError, match=message):
            parse_rule(rules, ["quality"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"scores": ("q=fasttext:nowhere.bin",)}, "'fasttext:nowhere.bin': no file 'nowhere.bin'"),
        ({"scores": ("q=nowhere:fn",)}, "scorer 'nowhere:fn' cannot be imported"),
        ({"cluster": ClusterOptions(backend="fais")}, "back end 'fais' is not available here"),
        ({"cluster": ClusterOptions(clusters=9, fit_points=8)}, "8 is less than the 9 clusters"),
    ],
)
def test_what_no_document_is_needed_for_is_said_before_any_is_read(
    tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    documents = graded(tmp_path / "d.jsonl")
    with pytest.raises(UserError, match=said):
        make_plan(small_options(documents, **more))


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (["paper", "style>=1"], ["--prune style>=1 beside paper is no threshold of its own"]),
        (["quality>=2", "quality >= 3"], ["--prune quality >= 3 replaces quality>=2 for quality"]),
        (["quality>=2", "nemo"], ["--prune nemo replaces quality>=2 for quality"]),
        (["nemo", "paper"], ["--prune paper replaces nemo for quality, advertisement, informat"]),
        (["paper", "paper"], []),
        (["nemo", "quality>=2"], []),
        (["paper", "ads<=2"], []),
        (["quality>=2", "quality<=4"], []),
    ],
)
def test_rules_that_change_each_other_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rules: list[str], said: list[str]
) -> None:
    fields = ("quality", "style", "ads")
    scores = tuple(f"{field}=column:grade" for field in fields)
    make_plan(small_options(graded(tmp_path / "d.jsonl"), scores=scores, prune=tuple(rules)))
    assert len(caplog.messages) == len(said)
    for line, part in zip(caplog.messages, said, strict=True):
        assert line.startswith(f"Caution: {part}")


# --- scorers ----------------------------------------------------------------------------------

DOCUMENTS = [Document("a", "good text", {"grade": "3"}), Document("b", "bad", {"grade": 1})]


def test_a_function_scores_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_scorers.py").write_text("def lengths(texts): return [len(t) for t in texts]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_scorer("my_scorers:lengths")(DOCUMENTS) == [9, 3]
    corpus = small_corpus(
        tmp_path / "out", graded(tmp_path / "a.jsonl"), scores=("size=my_scorers:lengths",)
    )
    assert all(200 < d.info["quality"]["size"] < 400 for d in corpus.domains)
    del sys.modules["my_scorers"]


def test_a_scikit_learn_model_scores_texts(tmp_path: Path) -> None:
    import joblib
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    documents = topic_documents(20)
    model = make_pipeline(HashingVectorizer(), SGDClassifier(loss="log_loss", random_state=0))
    model.fit([d["text"] for d in documents], [d["topic"] == "stars" for d in documents])
    joblib.dump(model, tmp_path / "model.joblib")
    corpus = small_corpus(
        tmp_path / "out",
        graded(tmp_path / "a.jsonl"),
        scores=(f"starry=sklearn:{tmp_path / 'model.joblib'}",),
        prune=("starry<=0.5",),
    )
    assert topics_left(corpus) == {"kitchen", "court", "garden"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("['high'] * len(texts)", "must return a number for each text, but returned 'high'"),
        ("[1.0]", r"returned \(1,\) values for"),
        ("texts[0] + 1", r"raised TypeError\(.*\), on documents '\w+-\d+' to"),
        ("exit(3)", r"raised SystemExit\(3\), on documents '\w+-\d+' to"),
        ("[float('nan')] * len(texts)", "not finite"),
        ("[[1, 2], [3]] * (len(texts) // 2)", "must return a number"),
    ],
)
def test_scorers_that_return_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    name = f"odd_scorer_{abs(hash(body))}"
    (tmp_path / f"{name}.py").write_text(f"def score(texts): return {body}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=message):
        small_corpus(
            tmp_path / "out", graded(tmp_path / "a.jsonl"), scores=(f"quality={name}:score",)
        )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fasttext:missing.bin", "no file 'missing.bin'"),
        ("sklearn:missing.joblib", "no file"),
        ("no_such_module:score", "cannot be imported"),
    ],
)
def test_scorers_that_are_not_there(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_scorer(spec)


def test_columns_hold_numbers() -> None:
    assert load_scorer("column:grade")(DOCUMENTS) == [3.0, 1.0]
    odd = ["high", None, "1e999", 10**400, 1e300, [1], {"a": 1}, "nan"]
    found = load_scorer("column:grade")([Document("a", "x", {"grade": v}) for v in odd])
    assert np.isnan(found).all()
    assert load_scorer("column:grade")([Document("a", "x", {"grade": "1.50"})]) == [1.5]


def test_a_value_that_is_no_number_costs_its_document_the_score(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = topic_documents(12)
    for row in rows:
        row["grade"] = 2
    rows[0]["grade"] = "n/a"
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    corpus = small_corpus(tmp_path / "out", file, scores=("quality=column:grade",))
    assert [d.info["quality"] for d in corpus.domains] == [{"quality": 2.0}] * len(corpus.domains)
    assert "1 of 48 documents hold no number, e.g. 'n/a'" in caplog.text
    for row in rows[:8]:
        row["grade"] = "n/a"
    file = write_jsonl(tmp_path / "b.jsonl", rows)
    with pytest.raises(UserError, match=r"--score quality=column:grade: 8 of 48 .* of numbers"):
        small_corpus(tmp_path / "other", file, scores=("quality=column:grade",))


@pytest.mark.parametrize("text", ["quality", "=column:x", "quality=column", "a b=column:x"])
def test_a_scorer_is_named_and_placed(text: str) -> None:
    with pytest.raises(UserError, match="expected NAME=KIND:WHERE"):
        parse_scorer(text)


def test_text_is_prepared_for_fasttext_as_nvidia_does() -> None:
    text = 'One line,\nand "Two" (3).'
    assert fasttext_text(text) == 'one line , <newline> and "two" ( 3 ) .'


def test_a_fasttext_model_scores_texts(tmp_path: Path) -> None:
    fasttext = pytest.importorskip("fasttext")
    lines = [f"__label__{4 if d['topic'] == 'stars' else 1} {d['text']}"
             for d in topic_documents(40)]  # fmt: skip
    (tmp_path / "train.txt").write_text("\n".join(lines))
    # On so few words the library finds NaN with most settings; not with these.
    model = fasttext.train_supervised(
        str(tmp_path / "train.txt"), dim=8, epoch=50, lr=0.05, minn=3, maxn=3, thread=1, verbose=0
    )
    model.save_model(str(tmp_path / "quality.bin"))
    corpus = small_corpus(
        tmp_path / "out",
        graded(tmp_path / "a.jsonl"),
        scores=(f"quality=fasttext:{tmp_path / 'quality.bin'}",),
        prune=("quality>=2",),
    )
    assert topics_left(corpus) == {"stars"}
    assert all(np.isclose(d.info["quality"]["quality"], 4, atol=0.5) for d in corpus.domains)
