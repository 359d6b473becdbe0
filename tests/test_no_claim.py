"""Where nothing is shown to beat the prior, that is said first, wherever one looks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import optuna
import pytest
from optuna.trial import create_trial

import climb_opt
from climb_opt import MixtureSpace, best_mixture, compare_rules, set_aggregate
from climb_opt.attributes import COMPONENTS, SLOT
from climb_opt.cli import main
from climb_opt.exports import prepare, render
from climb_opt.exports.formats import texts
from climb_opt.measures import apart
from climb_opt.retrain.confirm import Terms, begin
from climb_opt.retrain.paired import Confirmation, first_line
from climb_opt.selection.choosing import evidence_of, learnt
from climb_opt.selection.recommendation import in_words
from climb_opt.storages import open_storage
from climb_opt.view import store_space
from synthetic_study import Shape, build_study

SPACE = MixtureSpace({"web": 6, "code": 2, "math": 1, "wiki": 1})
AS_GOOD = "The proportional mixture is as good for all that is known"
Direction = Literal["minimize", "maximize"]
Parts = Callable[[np.ndarray], dict[str, float]]


def study_of(
    parts: Parts,
    n: int = 40,
    direction: Direction = "minimize",
    named: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> optuna.Study:
    """The named mixtures and n random ones; the score is the sum of its parts."""
    study = optuna.create_study(direction=direction, study_name="flat")
    store_space(study, SPACE)
    rng = np.random.default_rng(0)
    rows = [*named.items(), *enumerate(SPACE.sample_mixed(rng, n))]
    names = list(parts(SPACE.prior))
    if len(names) > 1:
        set_aggregate(study, dict.fromkeys(names, 1.0))
    for slot, weights in rows:
        found = parts(weights)
        study.add_trial(
            create_trial(
                params=SPACE.params(weights),
                distributions=SPACE.distributions(),
                value=sum(found.values()),
                user_attrs={COMPONENTS: found, SLOT: slot},
            )
        )
    return study


def noise(scale: float = 0.1) -> Callable[[], float]:
    rng = np.random.default_rng(1)
    return lambda: float(scale * rng.standard_normal())


def flat() -> Parts:
    draw = noise()
    return lambda weights: {"a": 1.0 + draw()}


def opposed(scale: float = 1.0, constant: bool = False) -> Parts:
    """Two components that pull apart: each would pay alone, their sum does not."""
    draw = noise(0.02)

    def parts(weights: np.ndarray) -> dict[str, float]:
        pull = 2.0 * (weights[1] - SPACE.prior[1])
        found = {"code/bpb": 1.0 + pull + draw(), "text/bpb": 1.0 - pull + draw()}
        return {**found, "still": 5.0} if constant else found

    return lambda weights: {k: scale * v for k, v in parts(weights).items()}


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_noise_alone_is_no_gain_and_that_is_said_first(direction: Direction) -> None:
    study = study_of(flat(), direction=direction)
    for rule, best in compare_rules(study, rules=["auto", "observed", "evaluated"]).items():
        assert best.as_good.startswith(AS_GOOD), rule
        assert str(best).splitlines()[0] == f"{best.as_good}."
        assert best.gain is not None and best.gain.low <= 0


def test_a_gain_that_is_shown_is_not_taken_back() -> None:
    best = best_mixture(study_of(lambda w: {"a": float(w[1])}))
    assert best.as_good == "" and best.gain is not None and best.gain.low > 0
    assert str(best).splitlines()[0].startswith("math  0.")


@pytest.mark.parametrize(("scale", "constant"), [(1.0, False), (1e6, True), (1e-6, False)])
def test_components_that_would_pay_alone_are_named(scale: float, constant: bool) -> None:
    best = best_mixture(study_of(opposed(scale, constant)))
    said = best.as_good
    still = "the same in every trial, so no reason for any mixture: 'still'"
    assert (still in best.warnings) == constant
    assert said.startswith(AS_GOOD)
    assert "would gain: code/bpb (+" in said and "text/bpb (+" in said
    assert "still" not in said


def test_gains_of_components_say_that_other_seeds_are_not_counted() -> None:
    evidence = evidence_of(*learnt(study_of(opposed()), None), components=False, seed=0)
    assert evidence is not None and "would gain: code/bpb" in evidence.pays
    told = replace(evidence, learnt=replace(evidence.learnt, other_seeds=0.1))
    assert "would gain, other seeds not counted: code/bpb" in told.pays


def test_gains_of_components_are_the_less_sure_the_more_components_there_are() -> None:
    two, draw = opposed(), noise()

    def eight(weights: np.ndarray) -> dict[str, float]:
        return {**two(weights), **{f"noise {n}": draw() for n in range(6)}}

    told = [best_mixture(study_of(parts)).as_good for parts in (opposed(), eight)]
    few, many = (float(re.findall(r"code/bpb \(\+\S+ ± ([\d.]+)\)", said)[0]) for said in told)
    assert many == pytest.approx(1.276 * few, rel=0.03)  # quantiles of 1 - .05 / 8 and 1 - .05 / 2


def test_components_of_wildly_different_scales_are_judged_each_on_its_own() -> None:
    draw, small = noise(1e4), opposed()

    def parts(weights: np.ndarray) -> dict[str, float]:
        return {"perplexity": 1e6 + draw(), **small(weights)}

    best = best_mixture(study_of(parts))
    said = best.as_good
    assert said.startswith(AS_GOOD) and "code/bpb (+" in said and "perplexity" not in said
    drowned = next(w for w in best.warnings if w.startswith("next to nothing"))
    assert "beside 'perplexity'" in drowned and "'code/bpb', 'text/bpb'" in drowned
    assert not any("nothing in the score" in w for w in best_mixture(study_of(opposed())).warnings)


def test_components_that_are_noise_do_not_pay() -> None:
    a, b = noise(), noise(0.3)
    said = best_mixture(study_of(lambda w: {"a": a(), "b": b()})).as_good
    assert said.endswith(
        "no component of the score is shown to gain by a mixture of its own either"
    )


def test_another_baseline_that_is_as_good_is_named() -> None:
    best = np.array([0.1, 0.5, 0.2, 0.2])
    draw = noise(0.002)

    def parts(weights: np.ndarray) -> dict[str, float]:
        return {"a": float(((weights - best) ** 2).sum()) + draw()}

    found = best_mixture(study_of(parts, named={"baseline/mine": best}))
    assert found.gain is not None and found.gain.low > 0
    assert found.as_good.startswith("The baseline 'mine' is as good for all that is known")
    assert found.as_good.endswith(f" {in_words(found.gain_over_baseline, sign=True)}")
    worse = best_mixture(study_of(parts, named={"baseline/mine": SPACE.prior}))
    assert worse.as_good == ""


def test_a_mixture_that_a_person_put_in_line_is_no_baseline() -> None:
    for slot, counts in (("enqueued/mine", False), ("baseline/prior", True)):
        found = best_mixture(study_of(flat(), named={slot: SPACE.prior}))
        assert (found.gain_over_baseline is not None) == counts


@pytest.mark.parametrize("n", [1, 2, 3])
def test_one_two_or_equal_trials_say_so_in_plain_words(n: int) -> None:
    best = best_mixture(study_of(flat(), n))
    assert best.as_good.startswith(AS_GOOD)
    if n > 1:
        assert any(w.startswith(f"{n} trials: intervals are") for w in best.warnings)
    else:
        assert best.gain is None and "one finished trial: nothing to model" in best.as_good
    equal = best_mixture(study_of(lambda w: {"a": 1.0}, max(n, 2)))
    assert equal.gain is None and "all scores are equal: nothing to model" in equal.as_good


def test_the_guarded_rule_keeps_to_what_was_measured_unless_more_is_shown() -> None:
    for parts in (flat(), opposed()):
        study = study_of(parts)
        kept = best_mixture(study, rule="guarded")
        assert min(apart(kept, SPACE.mixture(SPACE.weights_of(t))) for t in study.trials) < 1e-9  # type: ignore[arg-type]
        assert kept.lead is None
    sure = study_of(lambda w: {"a": float(((w - [0.3, 0.3, 0.2, 0.2]) ** 2).sum())}, 60)
    bold, kept = best_mixture(sure), best_mixture(sure, rule="guarded")
    assert bold.lead is not None and (bold.lead.low > 0) == (apart(bold, kept) < 1e-9)


# --- every door ----------------------------------------------------------------------------------


@pytest.fixture
def door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    storage = str(tmp_path / "s.journal")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTUNA_STORAGE", storage)
    shape = Shape(domains=3, rounds=(8, 4), noise=100.0, name="flat", failures=0)
    build_study(shape, open_storage(storage))

    def call(*argv: str) -> str:
        assert main(list(argv)) == 0
        return capsys.readouterr().out

    return call


def test_every_command_says_it_first(door: Callable[..., str], tmp_path: Path) -> None:
    said = door("best", "flat").splitlines()[0]
    assert said.startswith(AS_GOOD)
    rules = json.loads(door("best", "flat", "-f", "json"))
    assert [r["as_good"] for r in rules if r["default"]] == [said.removesuffix(".")]
    assert door("best", "flat", "-f", "yaml").splitlines()[0] == f"# {said}"
    title, _, first = door("report", "flat", "--markdown").splitlines()[:3]
    assert title == "# flat" and first == f"**{said}**"
    assert door("export", "flat", "--format", "yaml").splitlines()[0] == f"# {said}"
    assert AS_GOOD not in door("export", "flat", "--format", "yaml", "--trial", "4")
    door("report", "flat", "--output", "r.html")
    page = (tmp_path / "r.html").read_text()
    assert page.index(AS_GOOD) < page.index("slots finished")
    assert door("report", "flat", "--output", "-").splitlines()[0].startswith("<!")
    assert not (tmp_path / "-").exists()
    study = optuna.load_study(study_name="flat", storage=open_storage(str(tmp_path / "s.journal")))
    assert climb_opt.report(study, markdown=True).splitlines()[2] == f"**{said}**"
    assert f"{begin(study, Terms()).as_good}." == said


@pytest.mark.parametrize("name", texts())
def test_every_export_says_it_first_where_its_format_lets_it(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    claim = f"{AS_GOOD}: no trial has said more"
    text = render(name, prepare({"web": 0.5, "code": 0.5}, study="flat", as_good=claim))
    assert f"{claim}." in caplog.messages
    if name == "json":
        assert json.loads(text)["as_good"] == claim
    elif name != "megatron":  # which knows no comments
        assert text.splitlines()[0] == f"# {claim}."
    caplog.clear()
    assert AS_GOOD not in render(name, prepare({"web": 1.0}, study="flat"))
    assert not any(AS_GOOD in message for message in caplog.messages)


def test_what_was_retrained_has_the_first_word_in_confirm_and_exports_too(
    door: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study = optuna.load_study(study_name="flat", storage=open_storage(str(tmp_path / "s.journal")))
    found = json.loads(door("export", "flat", "--format", "json"))["mixture"]
    better = confirmed({"prior": [0.5, 0.51, 0.49]}, found)
    for module in ("exports.from_study", "retrain.confirm"):
        monkeypatch.setattr(f"climb_opt.{module}.confirmation_beside", lambda study: better)
    for words in (("best", "flat", "-f", "yaml"), ("export", "flat", "--format", "yaml")):
        assert AS_GOOD not in door(*words)
    assert begin(study, Terms()).as_good == ""
    rules = json.loads(door("best", "flat", "-f", "json"))
    assert [r["as_good"] for r in rules if r["default"]] == [None]
    level = confirmed({"uniform": [0.1, -0.1, 0.02]}, found)
    for module in ("exports.from_study", "retrain.confirm"):
        monkeypatch.setattr(f"climb_opt.{module}.confirmation_beside", lambda study: level)
    for words in (("best", "flat", "-f", "yaml"), ("export", "flat", "--format", "yaml")):
        assert door(*words).startswith("# The uniform mixture is as good")
    assert begin(study, Terms()).as_good.startswith("The uniform mixture is as good")


def test_a_verdict_on_another_mixture_is_none_on_this_one(
    door: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    better = confirmed({"prior": [0.5, 0.51, 0.49]})
    for module in ("exports.from_study", "retrain.confirm", "reports.report"):
        monkeypatch.setattr(f"climb_opt.{module}.confirmation_beside", lambda study: better)
    assert AS_GOOD in door("export", "flat", "--format", "yaml")
    said = door("best", "flat")
    assert said.startswith(AS_GOOD) and "found is better than prior" in said
    assert "What was retrained is another mixture than the one recommended now: " in said
    assert "; `climb-opt confirm flat --as NAME` retrains it." in said
    assert "What was retrained is another mixture" in door("report", "flat", "--markdown")


def confirmed(
    gains: dict[str, list[float]], found: Mapping[str, float] = MappingProxyType({"web": 1.0})
) -> Confirmation:
    scores = {"found": dict.fromkeys(range(3), 1.0)}
    scores |= {name: {s: 1.0 + g for s, g in enumerate(each)} for name, each in gains.items()}
    mixtures = dict.fromkeys(scores, found)
    return Confirmation("c", "s", mixtures, ("found",), tuple(gains), scores, 1.0, "score")


def test_what_was_retrained_has_the_first_word() -> None:
    best = best_mixture(study_of(flat()))
    better = confirmed({"prior": [0.5, 0.51, 0.49]}, best)
    assert first_line(best, better) == ""
    assert first_line(best, confirmed({"prior": [0.5, 0.51, 0.49]})) == f"{best.as_good}."
    level = confirmed({"prior": [0.5, 0.51, 0.49], "uniform": [0.1, -0.1, 0.02]})
    assert first_line(None, level).startswith("The uniform mixture is as good")
    early = confirmed({"prior": [0.5]}, best)
    assert first_line(best, early) == f"{best.as_good}."
