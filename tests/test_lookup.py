"""One lookup: every name can be listed and found, and every kind takes an object of one's own.

Each try is what a newcomer does: a module beside the recipe, named as "module:Name".
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from climb_opt import ClimbSampler, MixtureSpace, SimplexSampler, UserError, best_mixture, lookup
from climb_opt.ablation.run.surfaces import surface
from climb_opt.baselines import fixed_mixture
from climb_opt.cli import main
from climb_opt.exports import prepare, render, texts
from climb_opt.objective import build_evaluator
from climb_opt.recipes import Choice, study_from
from climb_opt.reports.report import contents_of
from climb_opt.shards import Corpus
from climb_opt.study.working import build_pruner, build_sampler

SPACE = MixtureSpace({"web": 6, "code": 3, "math": 1})
OWN = '''"""Entries of a newcomer."""
import numpy as np
import optuna

from climb_opt.ablation.run.surfaces import mixing_law
from climb_opt.samplers.encodings import SoftmaxEncoding
from climb_opt.samplers.presets import ClimbRules

LAZY = ClimbRules(pool_size=50, decimals=None)


def middle(evidence):
    """The mean of all that was tried."""
    return evidence.history.weights.mean(axis=0)


def wrong(*anything):
    return [0.5, 0.5]


def ini(handover):
    """name = weight, a line each."""
    return "".join(f"{s.name} = {s.weight}\\n" for s in handover.sources)


def corners(space, rng, n):
    """Vertices in turn."""
    return np.eye(len(space))[np.arange(n) % len(space)]


def heavier(space, *, domain: str, by: float = 2.0):
    weights = space.prior.copy()
    weights[space.domains.index(domain)] *= by
    return weights


class Wide(SoftmaxEncoding):
    def __init__(self, space):
        super().__init__(space, reach=6.0)


class Mean:
    def fit(self, weights, scores):
        self.mean = float(np.mean(scores))

    def predict(self, weights):
        return np.full(len(weights), self.mean), np.zeros(len(weights))


class Prior(optuna.samplers.RandomSampler):
    one_objective = True

    def __init__(self, space, *, seed=None, shift=0.0):
        super().__init__(seed)
        self.space = space

    def infer_relative_search_space(self, study, trial):
        return self.space.distributions()

    def sample_relative(self, study, trial, search_space):
        return self.space.params(self.space.prior)


class Odd(Prior):
    def __init__(self, space, *, seed=None, given="space.params(space.prior)", known=True):
        super().__init__(space, seed=seed)
        self.given, self.known = given, known
        assert given != "made", "no GPU"

    def infer_relative_search_space(self, study, trial):
        return self.space.distributions() if self.known else {}

    def sample_relative(self, study, trial, search_space):
        return eval(self.given, {"space": self.space})


class Length:
    def __init__(self, corpus, *, scale=1.0):
        self.scale = scale

    def components(self):
        return ["length/letters"]

    def evaluate(self, model, accelerator):
        return {"length/letters": self.scale}


class Never(optuna.pruners.NopPruner):
    def __init__(self, patience=1):
        self.patience = patience


def blank(space, *, seed=None):
    return space


def law(domains=3):
    return mixing_law(domains=domains, tasks=2)
'''


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "newcomers.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))


def searched(**options: object) -> optuna.Study:
    sampler = ClimbSampler(SPACE, rounds=(6, 3), seed=0, **{"predictor": "loglinear", **options})  # type: ignore[arg-type]
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: (SPACE.suggest(t)["code"] - 0.5) ** 2, n_trials=9)
    return study


ENTRIES = [(kind, name) for kind, known in lookup.KINDS.items() for name in known]


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_entry_says_in_a_line_what_it_is(kind: str, name: str) -> None:
    said = lookup.about(kind, name)
    assert said and "\n" not in said


def test_a_line_about_an_entry_is_read_without_importing_it() -> None:
    assert lookup.about("rule", "newcomers:middle") == "The mean of all that was tried."
    assert lookup.about("rule", "nowhere:middle") == lookup.about("rule", "newcomers:none") == ""


@pytest.mark.parametrize("kind", lookup.KINDS)
def test_a_wrong_name_is_told_the_near_one_and_all_others(kind: str) -> None:
    for name in list(lookup.KINDS[kind])[:1]:
        with pytest.raises(UserError) as error:
            lookup.find(kind, f"{name}x")
        said = str(error.value)
        assert said.startswith(f"Unknown {kind} '{name}x'. Did you mean {name!r}?")
        assert all(known in said for known in lookup.KINDS[kind]) and '"module:Name"' in said


@pytest.mark.parametrize("rule", [None, 3, len])
def test_what_is_no_name_is_told_what_one_is(rule: Any) -> None:
    study = optuna.create_study()
    with pytest.raises(UserError, match=r'^rule: a name or "module:Name" is wanted, not '):
        best_mixture(study, rule=rule)


@pytest.mark.parametrize("kind", lookup.KINDS)
def test_ls_lists_every_kind(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", f"{kind}s"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == [*lookup.KINDS[kind], "module:Name"]


def test_ls_says_which_kind_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "predictrs"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("climb-opt: Unknown kind 'predictrs'. Did you mean 'predictors'? Known:")


def test_what_a_module_has_under_nearly_that_name_is_said() -> None:
    with pytest.raises(UserError, match=r"has no 'JSONLL'\. Did you mean 'JSONL'\?"):
        lookup.find("reader", "climb_opt.corpus.read.jsonl:JSONLL")


def test_ls_lists_the_arms_of_ablations(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "arms"]) == 0
    assert "regmix-argmin" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "name", "says"),
    [
        ("class X(:", "broken:X", r"SyntaxError: invalid syntax \(broken.py, line 1\)"),
        ("a = 1\n1 / a[0]", "broken:X", r"TypeError: .* \(broken.py, line 2\)"),
        ("import sys; sys.exit(4)", "broken:X", r"SystemExit: 4 \(broken.py, line 1\)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, name: str, says: str
) -> None:
    (tmp_path / "broken.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=rf"rule 'broken:X' cannot be imported: {says}\. Mend"):
        lookup.find("rule", name)


@pytest.mark.parametrize("module", ["", "./mine.py", "mine."])
def test_what_is_no_module_s_name_is_told_how_one_is_written(module: str) -> None:
    with pytest.raises(UserError, match=r"is no module\. Write it as Python imports it"):
        lookup.find("rule", f"{module}:best")


# --- a newcomer's own -----------------------------------------------------------------------------


def test_an_own_rule_chooses_the_mixture() -> None:
    study = searched()
    found = best_mixture(study, rule="newcomers:middle")
    mean = np.mean([list(t.params.values()) for t in study.trials], axis=0)
    assert found.rule == "newcomers:middle"
    np.testing.assert_allclose(list(found.values()), mean)
    assert contents_of(study, rule="newcomers:middle").followed == "newcomers:middle"


def test_an_own_rule_of_another_shape_is_refused() -> None:
    with pytest.raises(UserError, match=r"rule 'newcomers:wrong' must return an array \(3,\)"):
        best_mixture(searched(), rule="newcomers:wrong")


def test_an_own_format_writes_the_mixture() -> None:
    handover = prepare({"web": 0.75, "code": 0.25}, study="s")
    assert render("newcomers:ini", handover) == "web = 0.75\ncode = 0.25\n"
    assert "materialise" not in texts()
    with pytest.raises(UserError, match="writes data, not text"):
        render("materialise", handover)


def test_an_own_design_and_preset_start_the_search() -> None:
    study = searched(design="newcomers:corners", preset="newcomers:LAZY")
    first = [t.params["w/web"] for t in study.trials[:3]]
    assert first == [1, 0, 0]
    with pytest.raises(UserError, match=r"design 'newcomers:wrong' must return an array \(6, 3\)"):
        searched(design="newcomers:wrong")


def test_what_an_own_design_puts_outside_of_the_bounds_is_moved_inside() -> None:
    bounded = MixtureSpace({"web": 6, "code": 3, "math": 1}, upper={"web": 0.5})
    study = optuna.create_study(
        sampler=ClimbSampler(bounded, rounds=(2,), design="newcomers:corners", seed=0)
    )
    study.optimize(lambda t: bounded.suggest(t)["code"], n_trials=2)
    assert max(t.params["w/web"] for t in study.trials) == pytest.approx(0.5)


def test_an_own_baseline_is_a_mixture_with_checked_options() -> None:
    weights = fixed_mixture(SPACE, "newcomers:heavier", domain="math", by=2)
    np.testing.assert_allclose(weights, np.array([6, 3, 2]) / 11)
    with pytest.raises(UserError, match="missing key 'domain'"):
        fixed_mixture(SPACE, "newcomers:heavier")
    with pytest.raises(UserError, match=r"heavier\.by: expected"):
        fixed_mixture(SPACE, "newcomers:heavier", domain="math", by="much")
    with pytest.raises(UserError, match=r"unknown key 'bye'\. Did you mean 'by'"):
        fixed_mixture(SPACE, "newcomers:heavier", domain="math", bye=2)


def test_an_own_encoding_is_named() -> None:
    base = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(sampler=SimplexSampler(SPACE, base, encoding="newcomers:Wide"))
    study.optimize(lambda t: SPACE.suggest(t)["web"], n_trials=3)
    assert len(study.trials) == 3


def test_an_own_predictor_ranks_and_is_judged() -> None:
    study = searched(predictor="newcomers:Mean")
    assert contents_of(study, predictor="newcomers:Mean").predictor == "newcomers:Mean"
    assert sum(best_mixture(study, rule="argbest").values()) == pytest.approx(1)


def recipe_data(corpus: Corpus, **changes: object) -> dict[str, object]:
    evaluator = {"name": "newcomers:Length", "scale": 3.0}
    return {
        "corpus": str(corpus.path),
        "proxy": {"tokens": 1024},
        "evaluators": [evaluator],
        "score": ["length/letters"],
        "sampler": {"name": "newcomers:Prior", "shift": 0.1},
        **changes,
    }


def test_a_package_without_its_library_of_the_system_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lightgbm.py").write_text("import ctypes; ctypes.CDLL('libnowhere.so.1')")
    monkeypatch.syspath_prepend(tmp_path)
    for loaded in ("lightgbm", "climb_opt.predictors.lgbm", "climb_opt.predictors.forest"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    said = (
        r"^predictor 'lightgbm' .*: lightgbm could not be loaded \(.*libnowhere.*\)\. Install the"
    )
    with pytest.raises(lookup.NotHere, match=said):
        lookup.find("predictor", "lightgbm")


def test_own_sampler_evaluator_and_pruner_are_named_in_a_recipe(tiny_corpus: Corpus) -> None:
    data = recipe_data(tiny_corpus, pruner={"name": "newcomers:Never", "patience": 2})
    recipe = study_from(data)
    study = optuna.create_study(sampler=build_sampler(recipe, SPACE))
    study.optimize(lambda t: SPACE.suggest(t)["web"], n_trials=2)
    assert study.trials[1].params["w/web"] == pytest.approx(0.6)
    assert type(build_pruner(recipe.pruner)).__name__ == "Never"
    evaluator = build_evaluator(tiny_corpus, recipe.evaluators[0])
    assert evaluator.evaluate(None, None) == {"length/letters": 3.0}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("None", r"Odd': sample_relative must return all weights, .*, but returned None\."),
        ("{}", r"sample_relative must return all weights, .*, but returned none of them\."),
        ("{'w/web': 1.0}", r"sample_relative must return all weights, .* left out 'w/code'\."),
        ("{**space.params(space.prior), 'w/web': float('nan')}", "from 0 to 1, but 'w/web' is nan"),
        ("{**space.params(space.prior), 'w/web': -0.8}", r"from 0 to 1, but 'w/web' is -0\.8"),
        ("{**space.params(space.prior), 'w/web': '?'}", r"from 0 to 1, but 'w/web' is '\?'"),
        ("space.params([-0.8, 1.2, 0.6])", r"from 0 to 1, but that of 'web' is -0\.8\. space\.pro"),
        ("space.params([0.0, 1.2, 0.0])", r"from 0 to 1, but that of 'code' is 1\.2\."),
        ("space.params({'web': 1})", r"are a mapping: space\.weights\(mixture\) makes them of one"),
        ("space.params([0.5, 0.5])", r"Weights must be an array \(3,\), .*, but are \(2,\)\."),
        ("1 / 0", r"^sampler 'newcomers:Odd' raised ZeroDivisionError"),
        ("exit(3)", r"^sampler 'newcomers:Odd' raised SystemExit\(3\)"),
    ],
)
def test_what_an_own_sampler_returns_that_is_no_mixture_is_told_by_its_name(
    tiny_corpus: Corpus, given: str, said: str
) -> None:
    data = recipe_data(tiny_corpus, sampler={"name": "newcomers:Odd", "given": given})
    study = optuna.create_study(sampler=build_sampler(study_from(data), SPACE))
    with pytest.raises((UserError, RuntimeError), match=said):
        SPACE.suggest(study.ask())


def test_an_own_sampler_that_knows_no_weights_or_cannot_be_made_is_refused(
    tiny_corpus: Corpus,
) -> None:
    def build(name: str, **options: object) -> optuna.samplers.BaseSampler:
        sampler = {"name": f"newcomers:{name}", **options}
        return build_sampler(study_from(recipe_data(tiny_corpus, sampler=sampler)), SPACE)

    study = optuna.create_study(sampler=build("Odd", known=False))
    with pytest.raises(UserError, match=r"infer_relative_search_space must .* none of them\."):
        SPACE.suggest(study.ask())
    with pytest.raises(UserError, match=r"'newcomers:Odd' raised AssertionError\('no GPU'\) while"):
        build("Odd", given="made")
    with pytest.raises(UserError, match=r"'newcomers:blank' must be an optuna\.samplers\.BaseSamp"):
        build("blank")


def test_a_sampler_says_itself_that_it_searches_one_objective(tiny_corpus: Corpus) -> None:
    also = {"second": {"score": ["length/letters"]}}
    for name in ("climb", "cma-es", "newcomers:Prior"):
        with pytest.raises(UserError, match=f"sampler '{name}' searches one objective"):
            study_from(recipe_data(tiny_corpus, sampler=name, also=also))
    for name in ("simplex-gp", "tpe", "elsewhere:Sampler"):  # only looked at, without its module
        assert study_from(recipe_data(tiny_corpus, sampler=name, also=also)).also


def test_an_own_objective_of_an_ablation_is_searched_on() -> None:
    assert len(surface(Choice("newcomers:law", {"domains": 4})).space) == 4
    with pytest.raises(UserError, match=r"unknown key 'domain'\. Did you mean 'domains'"):
        surface(Choice("newcomers:law", {"domain": 4}))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_numpy_does_not_take_is_refused(seed: int) -> None:
    with pytest.raises(UserError, match=r"predictor 'lightgbm': seed must be in \[0, 4294967295\]"):
        lookup.check_options("predictor", "lightgbm", {"seed": seed}, set())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serach", "demo"], "There is no command 'serach'. Did you mean 'search'? `climb-opt --h"),
        (["corpus", "biuld"], "There is no command 'biuld'. Did you mean 'build'? `climb-opt corp"),
    ],
)
def test_a_misspelt_command_is_told_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"climb-opt: {said}") and told.count("\n") == 1
