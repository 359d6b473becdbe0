"""The commands best, report, confirm, export and dashboard, as a person types them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml

from climb_opt import lookup
from climb_opt.cli import main, process
from climb_opt.errors import Interrupted, UserError
from climb_opt.reports.dashboard import server as board
from climb_opt.shards import Corpus
from climb_opt.storages import open_storage
from climb_opt.study import working
from synthetic_study import ODD_NAMES, Law, Shape, build_study, make_law, make_space

SMALL = Shape(domains=4, rounds=(8, 4), name="small", failures=1)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("storage") / "s.journal")
    opened = open_storage(path)
    build_study(SMALL, opened)
    build_study(Shape(domains=4, rounds=(8, 4), done=0, baselines=(), name="begun"), opened)
    build_study(Shape(domains=ODD_NAMES, rounds=(12, 6), name="odd <b>'\"/🧪"), opened)
    return path


@pytest.fixture(autouse=True)
def light_rules(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CLIMB's own rules, which rank 100,000 candidates, but for the tests that ask."""
    if request.node.name != "test_best_as_data_holds_every_rule":
        for rule in ("argbest", "mean-top", "top", "supported"):
            monkeypatch.delitem(lookup.KINDS["rule"], rule)


@pytest.fixture
def run(
    storage: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTUNA_STORAGE", storage)

    def call(*argv: str) -> tuple[int, str, str]:
        status = main(list(argv))
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


class FakeProxies:
    """Stands where a `ProxyObjective` would: a formula, one process."""

    is_main = True

    def __init__(self, law: Law, space: Any, fail: bool = False) -> None:
        self.law, self.space, self.fail = law, space, fail
        self.calls = 0

    def __call__(self, trial: optuna.Trial) -> float:
        if self.fail:
            raise Interrupted("stopped")
        self.calls += 1
        weights = self.space.weights(self.space.suggest(trial))
        seed = int(trial.user_attrs["climb/seed"])
        rng = np.random.default_rng([seed, int(1e6 * weights[0])])
        return self.law(weights) + np.random.default_rng(seed).normal(0, 0.02) + rng.normal(0, 1e-3)

    def serve(self) -> None:
        raise AssertionError("rank 0 does not serve")

    def close(self) -> None:
        pass


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProxies]:
    space = make_space(SMALL)
    fake = FakeProxies(make_law(SMALL, space), space)
    monkeypatch.setattr(working, "make_objective", lambda *_, **__: fake)
    yield fake


# --- best ----------------------------------------------------------------------------------------


def test_best_sets_the_mixture_beside_prior_and_uniform(run: Any) -> None:
    status, out, _ = run("best", "small")
    assert status == 0
    assert out.splitlines()[0].split() == ["domain,", "%", "found", "prior", "uniform"]
    assert "optimum *" in out or "predicted *" in out
    assert "climb-opt confirm small" in out
    assert max(len(line) for line in out.splitlines() if "Caution" not in line) <= 98
    odd = run("best", "odd <b>'\"/🧪")[1]
    assert shlex.join(["climb-opt", "confirm", "odd <b>'\"/🧪"]) in odd, "as a shell takes it"


def test_best_as_data_holds_every_rule(run: Any) -> None:
    _, out, _ = run("best", "small", "-f", "json")
    rows = json.loads(out)
    assert {"observed", "optimum", "argbest"} <= {row["rule"] for row in rows}
    assert sum(row["default"] for row in rows) == 1
    assert all(sum(row["mixture"].values()) == pytest.approx(1) for row in rows)
    _, out, _ = run("best", "small", "-f", "yaml", "--rule", "observed")
    assert sum(yaml.safe_load(out).values()) == pytest.approx(1)


def test_best_follows_the_rule_that_is_asked_for(run: Any) -> None:
    _, out, _ = run("best", "small", "--rule", "observed")
    assert "observed *" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["best", "nope"], "No study 'nope'"),
        (["best", "begun"], "nothing to recommend yet"),
        (["best", "small", "--rule", "bestest"], "Unknown rule 'bestest'"),
        (["export", "begun", "--format", "json"], "nothing to export yet"),
        (["export", "small", "--format", "parquet"], "Known: json, yaml, megatron"),
        (["export", "small", "--format", "yaml", "--trial", "999"], "no trial 999"),
        (["export", "small", "--format", "yaml", "--tokens", "many"], "--tokens must be a number"),
        (["export", "small", "--format", "materialise"], "give --output FOLDER"),
        (["export", "small", "--format", "materialise", "--output", "-"], "give --output FOLDER"),
        (["export", "small", "--format", "materialise", "--output", "x"], "commands: --corpus"),
        (
            ["export", "small", "--format", "materialise", "--output", "x", "--path", "d/{domain}"],
            "--path is for other formats",
        ),
        (["export", "small", "--format", "json", "--documents"], "is for --format materialise"),
        (["export", "small", "--format", "model", "--documents"], "is for --format materialise"),
        (["export", "small", "--format", "materialise", "--branch", "trunk"], "--format model"),
        (
            ["export", "small", "--format", "json", "--rule", "observed", "--trial", "1"],
            "--rule and --trial exclude each other",
        ),
        (["report", "small", "--predictor", "oracle"], "Unknown predictor 'oracle'"),
        (["confirm", "begun"], "nothing to confirm yet"),
        (["confirm", "small", "--seeds", "0"], "--seeds must be at least 1"),
        (["confirm", "small", "--rules", "luck"], "unknown rule 'luck'"),
        (["confirm", "small", "--rules", "predictd"], "Did you mean 'predicted'?"),
        (["confirm", "small", "--proxy", "9000b"], "No recipe '9000b'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run: Any, argv: list[str], message: str) -> None:
    status, _, err = run(*argv)
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_confirm_without_a_corpus_says_so(run: Any) -> None:
    status, out, err = run("confirm", "small", "--as", "elsewhere", "--corpus", "gone")
    assert status == 2 and not out  # no plan of what cannot be trained
    assert "No corpus at 'gone'" in err and "for other commands: --corpus FOLDER" in err


# --- report --------------------------------------------------------------------------------------


def test_report_writes_a_page(run: Any, tmp_path: Path) -> None:
    status, out, _ = run("report", "small", "--predictor", "linear")
    assert status == 0 and "runs/small.html" in out
    page = (tmp_path / "runs" / "small.html").read_text(encoding="utf-8")
    assert "Recommended mixture" in page and "Rules side by side" in page


def test_report_on_a_study_without_trials_says_so(run: Any, tmp_path: Path) -> None:
    assert run("report", "begun")[0] == 0
    page = (tmp_path / "runs" / "begun.html").read_text(encoding="utf-8")
    assert "No recommendation yet" in page and "0 of 12" in page


def test_report_prints_markdown(run: Any) -> None:
    status, out, _ = run("report", "small", "--markdown", "--predictor", "linear")
    assert status == 0
    assert out.startswith("# small\n")
    assert "## Recommended mixture" in out


def test_odd_names_pass_through_every_command(run: Any, tmp_path: Path) -> None:
    name = "odd <b>'\"/🧪"
    assert run("best", name)[0] == 0
    assert run("report", name, "--predictor", "linear", "--output", "odd.html")[0] == 0
    page = (tmp_path / "odd.html").read_text(encoding="utf-8")
    assert "<script" not in page and "<img" not in page and "<title>odd &lt;b&gt;" in page
    _, out, _ = run("export", name, "--format", "json")
    assert set(json.loads(out)["mixture"]) <= set(ODD_NAMES)
    _, out, _ = run("best", name)
    assert "\x1b" not in out and "\x00" not in out


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["report", "small", "--rule", "observed"], "report"),
        (["report", "small", "--rule", "observed", "--markdown"], "report"),
        (["export", "small", "--format", "yaml", "--trial", "4"], "export of yaml"),
        (["export", "small", "--format", "cli_results_formats:pairs"], "export of cli_results_fo"),
    ],
)
def test_a_file_is_replaced_by_its_like_alone(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], what: str
) -> None:
    own = "def pairs(handover):\n    return ''.join(f'{s.name}\\n' for s in handover.sources)\n"
    (tmp_path / "cli_results_formats.py").write_text(own)
    monkeypatch.syspath_prepend(tmp_path)
    target = tmp_path / "out"
    target.touch()  # empty, as mktemp leaves it
    assert run(*argv, "--output", "out")[0] == 0
    written = target.read_text(encoding="utf-8")
    target.write_text(f"{written}\n", encoding="utf-8")
    assert run(*argv, "--output", "out")[0] == 0
    assert len(target.read_text(encoding="utf-8")) == len(written)
    for mine in ("# small\n\nsampler: climb\n", own):
        target.write_text(mine)
        status, out, err = run(*argv, "--output", "out")
        assert status == 2 and not out and len(err.splitlines()) == 1
        assert f"'out' exists already and is no {what}" in err and "another --output" in err
        assert target.read_text() == mine


# --- confirm -------------------------------------------------------------------------------------


def test_confirm_retrains_compares_and_resumes(run: Any, proxies: FakeProxies) -> None:
    status, out, _ = run("confirm", "small", "--seeds", "2")
    assert status == 0
    assert proxies.calls == 6
    last = [line for line in out.splitlines() if line.startswith("found is ")]
    assert len(last) == 2 and "bits per byte (2 seeds)" in last[0]
    assert "bits per byte (± sd over seeds)" in out
    status, out, _ = run("confirm", "small", "--seeds", "3")
    assert status == 0 and proxies.calls == 9
    assert "(3 seeds)" in out
    assert "9 of 9 slots done" in run("status", "small-confirm")[1]
    _, best, _ = run("best", "small")
    assert "found is " in best
    run("report", "small", "--predictor", "linear", "--output", "r.html")
    page = Path("r.html").read_text(encoding="utf-8")
    assert 'id="confirmed"' in page and "Retrained with fresh seeds" in page
    _, out, _ = run("report", "small", "--predictor", "linear", "--markdown")
    assert "## Retrained with fresh seeds" in out


def test_the_report_shows_the_latest_verdict(run: Any, proxies: FakeProxies) -> None:
    assert run("confirm", "small", "--seeds", "2", "--as", "second")[0] == 0
    _, out, _ = run("report", "small", "--markdown")
    assert "Retrained with fresh seeds" in out and "| found | " in out


def test_a_confirmation_that_cannot_train_keeps_no_name(
    run: Any, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise UserError("No corpus.")

    monkeypatch.setattr(working, "make_objective", broken)
    status, _, err = run("confirm", "small", "--as", "gone")
    assert status == 2 and "No corpus" in err
    assert "gone" not in optuna.get_all_study_names(open_storage(storage))


def test_confirm_takes_every_rule_and_a_budget(run: Any, proxies: FakeProxies) -> None:
    status, out, _ = run("confirm", "small", "--as", "race", "--rules", "all", "--budget", "24")
    assert status == 0
    assert proxies.calls <= 24
    _, out, _ = run("confirm", "small", "--as", "long", "--budget", "24")
    assert "long: found, prior, uniform, up to 8 seeds each, 24 runs in all." in out
    _, out, _ = run("confirm", "small", "--as", "short", "--budget", "24", "--seeds", "4")
    assert "up to 4 seeds each, 24 runs in all." in out


def test_confirm_that_is_stopped_can_go_on(
    run: Any, proxies: FakeProxies, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped:
        def __call__(self) -> bool:
            return True

    @contextmanager
    def flag() -> Iterator[Stopped]:
        yield Stopped()

    with monkeypatch.context() as patch:
        patch.setattr(process, "stop_flag", flag)
        status, _, err = run("confirm", "small", "--as", "later", "--seeds", "1")
        assert status == 130 and "run the same command again" in err
        assert proxies.calls == 0
    assert run("confirm", "small", "--as", "later", "--seeds", "1")[0] == 0
    assert proxies.calls == 3


# --- export --------------------------------------------------------------------------------------


def test_a_trials_mixture_can_be_put_in_line_again(run: Any, tmp_path: Path) -> None:
    _, out, _ = run("export", "small", "--format", "yaml", "--trial", "4")
    mixture = tmp_path / "again.yaml"
    mixture.write_text(out, encoding="utf-8")
    assert sum(yaml.safe_load(out).values()) == pytest.approx(1.0, abs=1e-9)
    status, out, _ = run("enqueue", "small", str(mixture))
    assert status == 0 and "In line" in out


def test_export_writes_a_file_and_says_where(run: Any, tmp_path: Path) -> None:
    status, out, _ = run("export", "small", "--format", "nanotron", "--output", "deep/er/mix.yaml")
    assert status == 0 and "deep/er/mix.yaml" in out
    assert (tmp_path / "deep" / "er" / "mix.yaml").is_file()


def test_an_export_that_cannot_be_written_says_nothing_else(
    run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    argv = ["export", "small", "--format", "nanotron", "--trial", "4"]
    assert run(*argv)[0] == 0 and "paths not found here" in caplog.text
    caplog.clear()
    status, out, err = run(*argv, "--output", str(tmp_path))
    assert status == 2 and not out and not caplog.text
    assert len(err.splitlines()) == 1 and "it is a folder. Give the path of a file" in err


def test_materialise_writes_the_mixed_tokens(
    run: Any, storage: str, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    opened = open_storage(storage)
    shape = Shape(domains=tuple(tiny_corpus.tokens()), rounds=(4, 2), name="tiny")
    study = build_study(shape, opened)
    facts = {"name": "tiny", "digest": tiny_corpus.digest, "tokens": tiny_corpus.tokens()}
    study.set_user_attr("climb/corpus", facts)
    argv = ["export", "tiny", "--format", "materialise", "--tokens", "3e3", "--output", "mixed"]
    status, out, _ = run(*argv, "--corpus", str(tiny_corpus.path), "--rule", "observed")
    assert status == 0 and "is read" in out
    assert (tmp_path / "mixed" / "mixture.bin").is_file()
    status, _, err = run(*argv, "--corpus", str(tiny_corpus.path), "--rule", "observed")
    assert status == 2 and "exists already" in err


def test_export_without_the_corpus_still_names_paths(run: Any) -> None:
    status, out, _ = run("export", "small", "--format", "megatron", "--path", "d/{domain}_doc")
    assert status == 0
    assert all(line.split()[1].startswith("d/domain-") for line in out.splitlines())


# --- dashboard -----------------------------------------------------------------------------------


def test_dashboard_shows_the_study_with_cards_and_a_note(
    run: Any, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna_dashboard")
    from optuna_dashboard._note import get_note

    served: dict[str, Any] = {}

    def serve(app: board.Application, *, ready: Any, **settings: Any) -> None:
        served.update(settings)
        ready(8124)

    monkeypatch.setattr(board, "serve", serve)
    status, out, _ = run("dashboard", "small", "--port", "8123")
    assert status == 0
    assert "http://localhost:8124/dashboard/studies/" in out, "where it listens"
    assert served == {"host": "localhost", "port": 8123}
    study = optuna.load_study(study_name="small", storage=open_storage(storage))
    note = get_note(study)
    assert note.startswith("# small")
    attrs = study._storage.get_study_system_attrs(study._study_id)
    for card in ("best-so-far", "mixture-by-round", "predicted-measured", "domain-effects"):
        assert any(card in key for key in attrs), card


def test_dashboard_on_a_study_without_trials_still_starts(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna_dashboard")
    monkeypatch.setattr(board, "serve", lambda *_, ready, port, **__: ready(port))
    status, out, _ = run("dashboard", "begun")
    assert status == 0 and ":8080/dashboard/studies/" in out
