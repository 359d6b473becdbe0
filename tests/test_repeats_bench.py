"""The benchmarks of a small domain that is repeated: parts, curves, and that they go on."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from climb_opt import MixtureSpace
from climb_opt.samplers import stock
from climb_opt.shards import Corpus

sys.path.insert(0, str(Path(__file__).parent / "bench"))
pytest.importorskip("zstandard")
import bench_repeats as bench
import bench_repetition as repetition

SPACE = MixtureSpace({"small": 500, "fiction": 9_500, "statutes": 10_000}, trial_tokens=20_000)


def bits(mixture: Mapping[str, float], seed: int) -> float:
    """Bottoms at a share of .3, whatever the others are; a little noise by seed."""
    return 3.0 + (mixture["small"] - 0.3) ** 2 + 1e-4 * seed


def test_documents_fill_the_small_domain_first_and_then_the_target() -> None:
    sizes = {"small": 20, "target": 25, "fiction": 15}
    documents = [("fiction", "f" * 10)] * 5 + [("unknown", "u")] + [(bench.LIKE, "m" * 10)] * 9
    parts = bench.split(iter(documents), sizes)
    assert {name: len(texts) for name, texts in parts.items()} == {
        "small": 2,
        "target": 3,
        "fiction": 2,
    }


def test_the_others_keep_their_proportions_along_the_curve() -> None:
    for share in bench.SHARES:
        mixture = bench.at_share(SPACE, share)
        assert mixture["small"] == share and sum(mixture.values()) == pytest.approx(1.0)
        assert mixture["fiction"] * 10_000 == pytest.approx(mixture["statutes"] * 9_500)


def test_what_was_trained_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = {"random": (lambda space, seed: stock.random(space, seed=seed), ("observed",))}
    monkeypatch.setattr(bench, "ARMS", arms)
    monkeypatch.setattr(bench, "ROUNDS", (5, 3))

    class Stopped(Exception):
        pass

    def stopping(mixture: Mapping[str, float], seed: int) -> float:
        if first.trained == 6:
            raise Stopped
        return bits(mixture, seed)

    first = bench.Proxies(tmp_path / "trained.jsonl", stopping)
    with pytest.raises(Stopped):
        bench.search(first, SPACE, "random", 0, 2)
    second = bench.Proxies(tmp_path / "trained.jsonl", bits)
    kept = bench.search(second, SPACE, "random", 0, 2)
    assert second.trained == 8 - 6 + 2  # the rest of the search, its pick with two fresh seeds
    third = bench.Proxies(tmp_path / "trained.jsonl", bits)
    assert bench.search(third, SPACE, "random", 0, 2) == kept and third.trained == 0
    (one,) = kept
    assert one.score == pytest.approx(
        np.mean([bits({"small": one.share}, bench.FRESH + n) for n in range(2)])
    )


def test_the_tables_say_where_the_curve_bottoms_and_what_was_kept(tmp_path: Path) -> None:
    train = bench.Proxies(tmp_path / "trained.jsonl", bits)
    scores = bench.curve(train, SPACE, bench.SHARES, 3)
    assert scores.shape == (len(bench.SHARES), 3) and train.trained == scores.size
    kept = [bench.Kept("climb", "argbest", seed, share, 3.0) for seed, share in enumerate([0.1, 1])]
    text = bench.report(SPACE, scores, kept)
    assert "It bottoms at 0.3, 12.0 epochs." in text  # 20,000 tokens of 500, and .3 of that
    assert "| climb | argbest | 22.0 | 4.0, 40.0 | 3.000 |" in text


def test_the_curves_of_a_part_are_judged_by_the_whole_run(tmp_path: Path) -> None:
    bottoms = {repetition.FULL: 0.3, repetition.MATCHED: 0.4, repetition.WHOLE: 0.8}

    def trains(bottom: float) -> bench.Train:
        return lambda mixture, seed: 3.0 + (mixture["small"] - bottom) ** 2 + 1e-4 * seed

    proxies = {n: bench.Proxies(tmp_path / n, trains(bottom)) for n, bottom in bottoms.items()}
    found = repetition.curves(proxies, SPACE, repetition.SHARES, 2)
    assert all(scores.shape == (len(repetition.SHARES), 2) for scores in found.values())
    text = repetition.report(repetition.SHARES, found, 40.0)
    assert "| matched | 0.4 | 0.4, 0.4 | +0.010 |" in text  # of the whole run, .1 off its best
    assert "| whole | 0.8 | 0.8, 0.8 | +0.250 |" in text
    assert "| 0.5 | 20.0 |" in text


def test_rates_are_compared_on_one_ladder_and_nothing_is_trained_twice(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    import bench_rates as rates

    recipe = f"""
corpus: {tiny_corpus.path}
proxy: {{include: tiny, tokens: 8192, sequence: 16}}
evaluators: [{{name: heldout, target: sums, max_tokens: 500}}]
score: [sums/bpb]
"""
    (tmp_path / "study.yaml").write_text(recipe)
    options = Namespace(
        study=str(tmp_path / "study.yaml"), set=[], mixtures=3, seeds=1, part=4,
        rates=[1.0, 0.1], repetition="matched", output=tmp_path / "rates.jsonl",
    )  # fmt: skip
    found = rates.measure(options)
    assert [*found] == [
        "whole run",
        "whole run, another seed",
        "1/4, matched, rate x 1",
        "1/4, matched, rate x 0.1",
    ]
    means = [float(scores.mean()) for scores in found.values()]
    assert max(means[:2]) < means[2] < means[3]  # fewer tokens, then a smaller rate, learn less
    trained = options.output.read_text()
    assert len(trained.splitlines()) == 12
    again = rates.measure(options)
    assert options.output.read_text() == trained
    assert all(np.array_equal(found[name], again[name]) for name in found)
