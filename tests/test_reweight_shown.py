"""A search whose proxies move their weights: stored, recommended, shown, confirmed, handed over."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from climb_opt import best_mixture, cli, compare_rules, export
from climb_opt.attributes import COMPONENTS, PATH
from climb_opt.errors import UserError
from climb_opt.paths import NUMBERS, SPANS, path_mean, path_schedule
from climb_opt.paths import Path as Track
from climb_opt.schedules import mean_mixture
from climb_opt.shards import Corpus
from climb_opt.study import open_study


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 9))
def test_a_path_is_short_and_its_mean_exact(steps: int, done: int, seed: int) -> None:
    done = min(done, steps)
    weights = np.random.default_rng(seed).dirichlet(np.ones(3), size=done)
    track = Track(["a", "b", "c"], steps)
    for step, row in enumerate(weights):
        track.add(step, row)
    data = json.loads(json.dumps(track.data(done)))
    assert len(data["steps"]) <= SPANS and data["steps"][-1] == done
    assert list(path_mean(data).values()) == pytest.approx(weights.mean(axis=0).tolist())
    for phases in {1, len(data["steps"])}:
        schedule = path_schedule(data, phases)
        assert sum(phase.share for phase in schedule) == pytest.approx(1)
        mean = mean_mixture(schedule)
        assert list(mean.values()) == pytest.approx(weights.mean(axis=0).tolist(), abs=1e-4)
    with pytest.raises(UserError, match="give 1 to"):
        path_schedule(data, len(data["steps"]) + 1)


def test_of_many_domains_a_path_holds_fewer_points() -> None:
    track = Track([f"d{k}" for k in range(1500)], 1000)
    assert track.sums.size <= NUMBERS and len(track.sums) >= 1


def test_a_search_by_such_proxies(
    tiny_corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    recipe = {
        "corpus": str(tiny_corpus.path),
        "proxy": {"model": {"hidden": 16, "layers": 1, "heads": 2}, "tokens": 4096, "sequence": 16,
                  "batch_tokens": 256, "compile": False, "reweight": "ado"},
        "evaluators": [{"name": "heldout", "target": "sums", "max_tokens": 500}],
        "score": ["sums/bpb"],
        "rounds": [2],
        "baselines": ["prior"],
        "sampler": "simplex-gp",
    }  # fmt: skip
    Path("moving.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    assert cli.main(["search", "moving.yaml"]) == 0
    study = open_study("moving", create=False)
    trials = [t for t in study.trials if COMPONENTS in t.user_attrs]
    assert len(trials) == 3 and all(PATH in t.user_attrs for t in trials)
    first = min(trials, key=lambda t: t.value or 0.0)
    found = best_mixture(study, rule="path-mean")
    assert found.mixture == pytest.approx(path_mean(first.user_attrs[PATH]), abs=1e-6)
    assert "path-mean" in compare_rules(study, rules=None)
    moved = json.loads(export(study, "json", phases=2))
    assert len(moved["phases"]) == 2 and moved["rule"] == f"the path of trial {first.number}"
    head = export(study, "yaml", phases=2, trial=0).splitlines()[0]
    assert head == "# Mixture of study moving, from the path of trial 0"
    with pytest.raises(UserError, match="--rule and --phases exclude each other"):
        export(study, "json", phases=2, rule="observed")
    with pytest.raises(UserError, match="Trial 99 of study 'moving' has no path"):
        export(study, "json", phases=2, trial=99)
    assert cli.main(["report", "moving", "--output", "page.html"]) == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "Path of the weights" in page and "that ado set" in page
    assert cli.main(["confirm", "moving", "--rules", "path-mean", "--seeds", "1"]) == 0
    assert "found" in capsys.readouterr().out


def test_without_such_proxies_nothing_is_said_of_paths(tmp_path: Path) -> None:
    from climb_opt.storages import open_storage
    from synthetic_study import Shape, build_study

    shape = Shape(domains=3, rounds=(4,), name="plain")
    study = build_study(shape, open_storage(str(tmp_path / "s.journal")))
    assert "path-mean" not in compare_rules(study)
    with pytest.raises(UserError, match="No finished trial has a path of weights"):
        best_mixture(study, rule="path-mean")
