"""The report: honest figures, every shape of study, and no name that escapes its place."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from climb_opt.errors import UserError
from climb_opt.metrics import unit_of
from climb_opt.predictors.simplex_gp import SimplexGP
from climb_opt.reports.contents import Contents, gather
from climb_opt.reports.draw import markdown
from climb_opt.reports.draw import page as html
from climb_opt.reports.effects import domain_effects, moved
from climb_opt.reports.quality import predict_unseen
from climb_opt.reports.report import is_report
from climb_opt.reports.snapshot import Snapshot, take
from climb_opt.samplers.climb_sampler import ClimbSampler
from climb_opt.selection import Advice, Estimate, Recommendation
from climb_opt.simplex import MixtureSpace
from climb_opt.text import printable
from climb_opt.view import store_space
from synthetic_study import ODD_NAMES, Shape, build_study, make_law, make_space

SMALL = Shape(domains=5, rounds=(12, 6, 4))
QUICK = "linear"


def advice_on(snapshot: Snapshot) -> Advice:
    order = np.argsort(snapshot.judged.values)
    top = snapshot.judged.weights[order[:5]].mean(axis=0)
    mixture, best = snapshot.space.mixture(top), snapshot.judged.weights[order[0]]
    score, gain = Estimate(1.2, 1.196, 1.204), Estimate(0.05, 0.044, 0.056)
    observed = snapshot.space.mixture(best)
    found = {
        "optimum": Recommendation(mixture, "optimum", score, gain, warnings=("few trials",)),
        "observed": Recommendation(observed, "observed", Estimate(1.19, 1.19, 1.19)),
    }
    return Advice(found, "optimum")


def contents_of(shape: Shape) -> Contents:
    snapshot = take(build_study(shape))
    return gather(snapshot, advice_on(snapshot), predictor=QUICK)


class Reader(HTMLParser):
    """Collects tags and attributes, and fails on what is not closed."""

    VOID = frozenset({"meta", "br", "img", "circle", "line", "rect", "polyline", "polygon"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_a_finished_study_has_every_section() -> None:
    page = html.render(contents_of(SMALL))
    names = re.findall(r'<section id="([a-z-]+)"', page)
    assert names == [
        "mixture",
        "search",
        "mixtures",
        "domains",
        "repetition",
        "failures",
        "provenance",
    ]
    assert page.count("<svg") >= 4


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = html.render(contents_of(SMALL))
    reader = read(page)
    assert not {"script", "link", "iframe", "img", "object"} & set(reader.tags)
    urls = [v for k, v in reader.attributes if k in ("src", "href", "xlink:href") and v]
    assert all(url.startswith("#") for url in urls)
    assert "default-src 'none'" in page
    outside = {v for k, v in reader.attributes if v and "://" in v and k != "xmlns"}
    assert outside == set()


def test_odd_names_are_shown_and_never_obeyed() -> None:
    page = html.render(contents_of(Shape(domains=ODD_NAMES, rounds=(12, 6), name="<b>&'\"")))
    reader = read(page)
    assert not {"script", "img"} & set(reader.tags)
    assert not any(name.startswith("on") for name, _ in reader.attributes)
    text = "".join(reader.text)
    assert "<script>alert(1)</script>" in text
    assert "emoji 🧪👩‍🔬" in text
    assert "中文领域" in text
    assert "\x1b" not in page and "\x00" not in page and "\u202e" not in page


def test_markdown_does_not_speak_of_what_only_a_page_shows() -> None:
    text = markdown.render(contents_of(SMALL))
    assert "tick marks the prior" not in text and "Bands hold" not in text
    assert "tick marks the prior" in html.render(contents_of(SMALL))


def test_what_is_sure_is_bold_in_markdown_as_on_the_page() -> None:
    contents = contents_of(Shape(domains=4, rounds=(10, 5)))
    bold = re.findall(r"\| \*\*([-+].*?)\*\*(?= \|)", markdown.render(contents))
    assert bold and bold == re.findall(r"<td><b>([-+].*?)</b></td>", html.render(contents))


def test_markdown_keeps_odd_names_in_their_cells() -> None:
    text = markdown.render(contents_of(Shape(domains=ODD_NAMES, rounds=(12, 6))))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    tables = "\n".join(text.split("\n")).split("\n\n")
    for block in (b for b in tables if b.startswith("|")):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1
    assert cells and "<script>" not in text and "\\<script\\>" in text


@pytest.mark.parametrize("domains", [1, 2, 5, 21])
def test_any_number_of_domains_is_reported(domains: int) -> None:
    contents = contents_of(Shape(domains=domains, rounds=(10, 5)))
    names = {printable(domain) for domain in contents.snapshot.space.domains}
    assert names <= set(read(html.render(contents)).text)


def test_240_domains_stay_readable() -> None:
    contents = contents_of(Shape(domains=240, rounds=(16, 8)))
    page = html.render(contents)
    reader = read(page)
    assert reader.tags.count("details") >= 3  # long tables fold
    assert len(page) < 400_000
    assert len(markdown.render(contents).splitlines()) < 100


@pytest.mark.parametrize("done", [1, 3, 7, 14])
def test_a_running_study_is_reported_as_far_as_it_is(done: int) -> None:
    snapshot = take(build_study(Shape(domains=5, rounds=(12, 6), done=done)))
    contents = gather(snapshot, predictor=QUICK)
    page = html.render(contents)
    read(page)
    assert f"{done + 2} of 20" in page  # with two baselines
    assert "No recommendation yet" in page
    assert "No recommendation yet" in markdown.render(contents)


def test_an_empty_study_says_what_to_do() -> None:
    study = optuna.create_study(study_name="fresh")
    with pytest.raises(UserError, match=r"'fresh' has no trial yet.*sampler of climb_opt") as said:
        take(study)
    assert "climb-opt" not in str(said.value), "search would find no recipe in it"


def test_a_study_of_other_things_says_so() -> None:
    study = optuna.create_study(study_name="lr")
    study.add_trial(
        create_trial(
            params={"lr": 0.1},
            distributions={"lr": optuna.distributions.FloatDistribution(0, 1)},
            value=1.0,
        )
    )
    with pytest.raises(UserError, match="none holds a mixture"):
        take(study)


def test_a_study_whose_trials_all_failed_shows_the_reasons() -> None:
    shape = Shape(domains=3, rounds=(4,), done=0, baselines=())
    study, space = build_study(shape), make_space(shape)
    for slot in range(4):
        study.add_trial(
            create_trial(
                state=TrialState.FAIL,
                params=space.params(space.prior),
                distributions=space.distributions(),
                user_attrs={"climb/slot": slot, "climb/error": f"loss is nan <i>{slot}</i>"},
            )
        )
    page = html.render(gather(take(study), predictor=QUICK))
    assert "loss is nan &lt;i&gt;3&lt;/i&gt;" in page
    read(page)


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("12 of 14 slots finished; 3 domains; 41 s of training; 786k tokens.", True),  # 0.1.0's
        ("slots finished: 12 of 14; domains: 3; training: 41 s.", True),
        ("12 of 14 slots finished; the rest follows.", False),
    ],
)
def test_markdown_of_an_earlier_version_is_a_report_too(line: str, known: bool) -> None:
    assert is_report(f"# mine\n\n{line}\n\n## Mixture\n") == known


def test_a_plain_optuna_study_needs_no_recipe() -> None:
    space = MixtureSpace({"web": 3, "code": 1})
    study = optuna.create_study(study_name="plain")
    rng = np.random.default_rng(0)
    for weights in space.sample(rng, 12):
        study.add_trial(
            create_trial(
                params=space.params(weights),
                distributions=space.distributions(),
                value=float(weights[0]),
            )
        )
    snapshot = take(study)
    assert not snapshot.prior_known
    assert snapshot.recipe is None
    page = html.render(gather(snapshot))
    assert "prior, %" not in page
    assert "<b>12</b><span>trials finished" in page and ">searched<" in page
    assert "outside the rounds" not in page and "<td>1</td>" not in page  # there is no round
    store_space(study, space)
    assert take(study).prior_known


def test_a_plain_study_of_climbs_has_its_rounds() -> None:
    space = MixtureSpace({"web": 3, "code": 1})
    study = optuna.create_study(sampler=ClimbSampler(space, rounds=(4, 3), seed=0))
    study.optimize(lambda trial: space.suggest(trial)["web"], n_trials=5)
    contents = gather(take(study))
    assert [(r.done, r.planned) for r in contents.rounds] == [(4, 4), (1, 3)]
    assert "slots finished: 5 of 7" in markdown.render(contents)


def test_later_rounds_are_predicted_from_earlier_ones_only() -> None:
    snapshot = take(build_study(Shape(domains=4, rounds=(10, 5))))
    seen: list[int] = []

    class Spy(SimplexGP):
        def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
            seen.append(len(scores))
            super().fit(weights, scores)

    predictions = predict_unseen(snapshot, Spy)
    assert len(predictions) == 15
    # Five folds of the ten trials of round 1, each with both baselines, then round 2 from 12.
    assert seen[:-1] == [10, 10, 10, 10, 10]
    assert seen[-1] == 12
    assert np.all(predictions.where(predictions.rounds == 1).rounds == 1)


def test_a_predictor_that_knows_the_law_has_rank_correlation_one() -> None:
    shape = Shape(domains=4, rounds=(10, 5), noise=0.0)
    snapshot = take(build_study(shape))
    law = make_law(shape, snapshot.space)

    class Oracle:
        def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
            pass

        def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            # The law's order of domains is that of the space it was made for.
            return np.array([law(w) for w in weights]), np.full(len(weights), 0.01)

    predictions = predict_unseen(snapshot, Oracle)
    assert predictions.rank_correlation() == pytest.approx(1.0)
    assert predictions.error() == pytest.approx(0.0, abs=1e-9)
    assert predictions.held() == len(predictions)


def test_effects_find_the_domains_that_matter() -> None:
    shape = Shape(domains=6, rounds=(40, 20), noise=0.001)
    snapshot = take(build_study(shape))
    pull = make_law(shape, snapshot.space).pull
    reference = np.full(6, 1 / 6)
    effects = domain_effects(snapshot.judged, snapshot.space.domains, reference)
    by_name = {e.domain: e for e in effects}
    best, worst = (snapshot.space.domains[int(f(pull))] for f in (np.argmax, np.argmin))
    assert by_name[best].without is not None and by_name[best].without.mean > 0
    assert by_name[worst].without is not None and by_name[worst].without.mean < 0
    assert by_name[best].without.sure and by_name[worst].without.sure


def test_effects_admit_what_noise_hides() -> None:
    shape = Shape(domains=6, rounds=(12,), noise=5.0)
    snapshot = take(build_study(shape))
    effects = domain_effects(snapshot.judged, snapshot.space.domains, np.full(6, 1 / 6))
    unsure = [e for e in effects if e.without is not None and not e.without.sure]
    assert len(unsure) >= 4


def test_moving_one_domain_keeps_the_others_in_proportion() -> None:
    w = np.array([0.5, 0.3, 0.2])
    assert moved(w, 0, 0.0) == pytest.approx([0, 0.6, 0.4])
    assert moved(w, 0, 1.0) == pytest.approx([1, 0, 0])
    vertex = moved(np.array([1.0, 0, 0]), 0, 0.4)
    assert vertex == pytest.approx([0.4, 0.3, 0.3])


def test_several_objectives_show_the_trade_off() -> None:
    space = MixtureSpace({"web": 2, "code": 1, "math": 1})
    study = optuna.create_study(study_name="two", directions=["minimize", "maximize"])
    rng = np.random.default_rng(0)
    for weights in space.sample(rng, 20):
        study.add_trial(
            create_trial(
                params=space.params(weights),
                distributions=space.distributions(),
                values=[float(weights[0]), float(weights[1])],
            )
        )
    store_space(study, space)
    contents = gather(take(study))
    page = html.render(contents)
    read(page)
    assert 'id="pareto"' in page
    front = {t.number for t in study.best_trials}
    found = re.findall(r"<tr><td>(\d+)</td>", page.partition('id="pareto"')[2])
    assert {int(n) for n in found} == front


def test_guard_rails_count_what_meets_them() -> None:
    shape = Shape(
        domains=4, rounds=(12, 6), overrides=('constraints={"task0/bpb": 1.25}',), failures=0
    )
    snapshot = take(build_study(shape))
    page = html.render(gather(snapshot, advice_on(snapshot), predictor=QUICK))
    met = int(np.sum(snapshot.measured <= 1.25))
    assert f"{met} of {len(snapshot.judged)} trials meet every guard-rail" in page


def test_constant_scores_and_identical_trials_are_reported() -> None:
    space = MixtureSpace({"web": 2, "code": 1})
    study = optuna.create_study(study_name="flat")
    for _ in range(12):
        study.add_trial(
            create_trial(
                params=space.params(space.prior), distributions=space.distributions(), value=1.0
            )
        )
    store_space(study, space)
    shown = read(html.render(gather(take(study)))).text
    assert "The search" in shown and "Which domains matter" not in shown


def test_maximised_scores_are_shown_as_they_are() -> None:
    contents = contents_of(Shape(domains=4, rounds=(10, 5), direction="maximize"))
    assert contents.rounds[0].best == pytest.approx(
        max(contents.snapshot.measured[contents.snapshot.rounds == 0])
    )
    assert "higher is better" in html.render(contents)


def test_components_are_predicted_one_by_one() -> None:
    contents = contents_of(Shape(domains=4, rounds=(10, 5), components=3))
    assert contents.predictions is not None
    assert contents.predictions.rank_correlation() > 0.3


def test_the_unit_is_stated_only_when_all_components_agree() -> None:
    assert unit_of(["a/bpb", "b/bpb"]) == "bits per byte"
    assert unit_of(["a/acc", "b/acc_norm"]) == "accuracy"
    assert unit_of(["a/bpb", "b/acc"]) == "score"
    assert unit_of([]) == "score"


def test_an_unknown_predictor_is_named() -> None:
    snapshot = take(build_study(SMALL))
    with pytest.raises(UserError, match="Unknown predictor 'lightgmb'"):
        gather(snapshot, predictor="lightgmb")
