"""Recipes: every shipped one reads; every mistake is one clear line."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import shlex
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb_opt import lookup, recipe_files, recipes
from climb_opt.errors import UserError
from climb_opt.strict import ANY, Range

MINIMAL = {
    "corpus": "corpora/x",
    "proxy": {"tokens": 1000},
    "evaluators": ["heldout"],
    "score": ["a/bpb", "b/bpb"],
}


@pytest.mark.parametrize("name", recipe_files.names("studies"))
def test_every_shipped_study_reads_and_names_what_exists(name: str) -> None:
    recipe = recipes.read_study(name)
    assert recipe.rounds or recipe.budget or recipe.baselines
    lookup.check_options("sampler", recipe.sampler.name, recipe.sampler.options, {"space"})
    for evaluator in recipe.evaluators:
        lookup.check_options("evaluator", evaluator.name, evaluator.options, {"corpus"})
    assert recipe_files.summary("studies", name)


@pytest.mark.parametrize("name", recipe_files.names("proxies"))
def test_every_shipped_proxy_reads(name: str) -> None:
    recipe = recipes.read_proxy(name)
    assert recipe.tokens >= recipe.batch_tokens >= recipe.sequence
    assert recipe_files.summary("proxies", name)


def test_a_stored_recipe_reads_back_the_same() -> None:
    recipe = recipes.study_from(
        {**MINIMAL, "sampler": {"name": "climb", "predictor": "gp"}, "pruner": "median"}
    )
    again = recipes.study_from(json.loads(recipes.to_json(recipe)))
    assert again == recipe
    assert recipes.digest(again) == recipes.digest(recipe)


def test_the_mean_of_components_is_the_default_score() -> None:
    assert recipes.study_from(MINIMAL).coefficients() == {"a/bpb": 0.5, "b/bpb": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predicter": 1}, "unknown key 'predicter'"),
        ({"proxy": {"token": 5}}, "Did you mean 'tokens'"),
        ({"proxy": {"tokens": "many"}}, "proxy.tokens: expected a number, but got 'many'"),
        ({"proxy": {"schedule": "linear"}}, "must be one of wsd, cosine"),
        ({"proxy": {"betas": [0.9]}}, "needs 2 values"),
        ({"proxy": "tiniest"}, "No recipe 'tiniest' in proxies"),
        ({"rounds": [8, "x"]}, r"rounds\[1\]: expected a number"),
        ({"rounds": 2.5}, "expected int"),
        ({"barrier": 1}, "expected bool"),
        ({"evaluators": []}, "at least one evaluator"),
        ({"score": []}, "at least one component"),
        ({"sampler": {"rounds": [1]}}, "expected a name"),
        ({"space": {"upper": {"a": "b"}}}, "space.upper"),
        ({"space": 3}, "expected a mapping"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipes.study_from({**MINIMAL, **change})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(UserError, match="missing key 'corpus'"):
        recipes.study_from({k: v for k, v in MINIMAL.items() if k != "corpus"})


def test_numbers_may_be_written_as_people_write_them() -> None:
    proxy = recipes.read_proxy({"lr": "3e-3", "tokens": 1e6, "clip": 1})
    assert (proxy.lr, proxy.tokens, proxy.clip) == (0.003, 1_000_000, 1.0)


def test_a_recipe_derives_from_another(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "# base\ncorpus: c\nproxy: {tokens: 5, lr: 0.1}\nevaluators: [heldout]\nscore: [a]\n"
        "sampler: {name: climb, predictor: gp}\n"
    )
    child = tmp_path / "child.yaml"
    child.write_text("# child\ninclude: base\nproxy: {lr: 0.2}\nsampler: {name: simplex-gp}\n")
    recipe = recipes.read_study(str(child), ["proxy.model.layers=3", "rounds=[4,2]"])
    assert (recipe.proxy.tokens, recipe.proxy.lr, recipe.proxy.model.layers) == (5, 0.2, 3)
    assert recipe.rounds == (4, 2)
    assert recipe.sampler == recipes.Choice("simplex-gp")  # another sampler drops old options


def test_set_reaches_into_a_proxy_given_by_name() -> None:
    data_of = recipe_files.names("proxies")
    if not data_of:
        pytest.skip("no shipped proxy")
    name = recipe_files.names("studies")[0]
    before, after = recipes.read_study(name), recipes.read_study(name, ["proxy.lr=0.5"])
    assert after.proxy.lr == 0.5
    assert after.proxy.model == before.proxy.model


@pytest.mark.parametrize("override", ["rounds", "=3", "rounds=[1"])
def test_a_malformed_override_is_named(override: str) -> None:
    with pytest.raises(UserError, match="--set"):
        recipes.read_study("demo", [override])


@pytest.mark.parametrize(
    "command", ["{python} tr.py {trial}", "{python} -c 'print(1)'", "a: b: $c"]
)
def test_what_to_type_for_text_that_is_no_yaml_is_said_and_holds(command: str) -> None:
    with pytest.raises(UserError, match=r"not readable as YAML: .*quote it for") as refused:
        recipe_files.set_overrides({}, [f"proxy.command={command}"])
    option, typed = shlex.split(str(refused.value).rpartition("too: ")[2].removesuffix("."))
    assert option == "--set"
    assert recipe_files.set_overrides({}, [typed]) == {"proxy": {"command": command}}


@pytest.mark.parametrize(
    ("override", "keys", "value"),
    [
        ("space.upper.example.org=.7", ["space", "upper", "example.org"], 0.7),
        ("space.upper.a=b=.7", ["space", "upper", "a=b"], 0.7),
        ("space.lower.score.x=0.1", ["space", "lower", "score.x"], 0.1),
        ("space.upper.no=30%", ["space", "upper", "no"], "30%"),
        ("space.upper={no: 0.3, a=b: 1}", ["space", "upper"], {"no": 0.3, "a=b": 1}),
        ("base.space.upper.example.org=1", ["base", "space", "upper", "example.org"], 1),
        ("score.my.task/bpb=-1", ["score", "my.task/bpb"], -1),
        ("also.cost.score.x.y=1", ["also", "cost", "score", "x.y"], 1),
        ("proxy.model.hidden=8", ["proxy", "model", "hidden"], 8),
        ("corpus=a=b", ["corpus"], "a=b"),
    ],
)
def test_set_names_any_domain(override: str, keys: list[str], value: object) -> None:
    data: dict[str, Any] = {}
    recipe_files.set_overrides(data, [override])
    for key in keys:
        assert list(data) == [key]
        data = data[key]
    assert data == value


def test_set_replaces_nothing_that_it_does_not_name() -> None:
    with pytest.raises(UserError, match=r"space\.upper is 0\.5, which has no keys"):
        recipe_files.set_overrides({"space": {"upper": 0.5}}, ["space.upper.web=0.7"])


def test_bounds_may_have_any_name_and_be_percentages(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text("include: demo\nspace: {upper: {no: 0.3, 1.50: 20%, 010: 0.4}}\n")
    upper = recipes.read_study(str(path)).space.upper
    assert upper == {"no": 0.3, "1.50": 0.2, "010": 0.4}


def test_a_recipe_that_includes_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text("# loop\ninclude: loop\n")
    with pytest.raises(UserError, match="includes itself"):
        recipes.read_study(str(path))


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", ""])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        recipes.read_study(str(path))


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UserError, match="Did you mean 'demo'"):
        recipes.read_study("dema")
    with pytest.raises(UserError, match="No recipe file"):
        recipes.read_study("nowhere.yaml")


def test_differences_are_shown_key_by_key() -> None:
    old = {"a": 1, "b": {"c": 2, "d": 3}}
    new = {"a": 1, "b": {"c": 5, "d": 3}, "e": "x"}
    assert recipe_files.difference(old, new) == ["b.c: 2 -> 5", 'e: null -> "x"']
    names = {"target": ["été=é"]}, {"target": ["caf\udce9"]}
    assert recipe_files.difference(*names) == [r'target: ["été=é"] -> ["caf\udce9"]']
    lists = {"l": [{"a": 1, "b": [2]}, {"a": 3}], "m": []}, {"l": [{"a": 1, "b": [4]}], "m": [{}]}
    assert recipe_files.difference(*lists) == [
        "l: 2 entries -> 1",
        "l[0].b: [2] -> [4]",
        "m: [] -> [{}]",
    ]


def test_lookup_names_what_is_near() -> None:
    with pytest.raises(UserError, match="Did you mean 'climb'"):
        lookup.find("sampler", "clim")
    with pytest.raises(UserError, match="cannot be imported"):
        lookup.find("sampler", "no_such_package:Sampler")
    with pytest.raises(UserError, match="has no 'Nothing'"):
        lookup.find("sampler", "json:Nothing")
    assert lookup.find("sampler", "json:JSONDecoder").__name__ == "JSONDecoder"


@pytest.mark.parametrize(
    ("key", "value"), [("seed", -1), ("seed", 2**32), ("proxy.tokens", 0), ("proxy.tokens", -5)]
)
def test_a_number_that_no_search_can_use_is_refused_with_the_recipe(key: str, value: int) -> None:
    wrong = {"proxy": {"tokens": value}} if "." in key else {key: value}
    with pytest.raises(UserError, match=f"{key} must be .*, but is {value}"):
        recipes.study_from({**MINIMAL, **wrong})


def test_not_a_number_is_no_setting() -> None:
    with pytest.raises(UserError, match=r"proxy\.lr: expected a number, but got nan"):
        recipes.study_from({**MINIMAL, "proxy": {"tokens": 1000, "lr": float("nan")}})


# --- the range of every number -------------------------------------------------------------------

WHOLE = {"space": {}, **MINIMAL}


def numbers_of(cls: Any, where: str, found: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Path -> type and range of every number of a recipe class and of those in it."""
    for name, hint in typing.get_type_hints(cls).items():
        if typing.ClassVar in (hint, typing.get_origin(hint)) or typing.get_origin(hint) is dict:
            continue
        if name == "ladder" or f"{where}{name}" == "space.phases":  # others' numbers, in a list
            continue
        parts = {*typing.get_args(hint)} or {hint}
        for part in (hint, *parts):
            if dataclasses.is_dataclass(part) and part is not recipes.CorpusRecipe:
                numbers_of(part, f"{where}{name}.", found)
        plain = {int, float} & {hint, *parts}
        if plain:
            limits = Range(*getattr(cls, "RANGES", {}).get(name, ANY))
            found[f"{where}{name}"] = (plain.pop(), limits)
    return found


NUMBERS = numbers_of(recipes.StudyRecipe, "", {})
ODD_NUMBERS = [0, -1, 1, 2, 0.5, 1.0, 1.5, -0.25, 1e3, "1e3", "1_000", "50%", 2**32, 2**63, 10**30]
ODD_NUMBERS += [
    -(10**30),
    math.inf,
    -math.inf,
    math.nan,
    "nan",
    "inf",
    True,
    False,
    "",
    "x",
    [],
    {},
]


def with_value(path: str, value: Any) -> dict[str, Any]:
    data = copy.deepcopy(WHOLE)
    if path.startswith("budget."):  # which takes the place of rounds
        data.update(sampler="tpe", rounds=[])
    if path.startswith("branches."):  # nothing read off them: no rungs
        data["branches"] = {"read": []}
    *parents, last = path.split(".")
    inner = data
    for parent in parents:
        inner = inner.setdefault(parent, {})
    listed = last in ("rounds", "betas", "phases")
    inner[last] = [value] * (2 if last == "betas" else 1) if listed else value
    return data


def test_every_number_of_a_recipe_is_looked_at() -> None:
    assert {"proxy.warmup", "proxy.model.hidden", "proxy.betas", "rounds", "space.lower"} <= {
        *NUMBERS
    }
    ranged = {path for path, (_, limits) in NUMBERS.items() if limits != ANY}
    assert {*NUMBERS} - ranged == {"verify"}  # none was forgotten; that depends on the rounds


@settings(deadline=None)
@given(
    st.sampled_from(sorted(NUMBERS)),
    st.one_of(st.sampled_from(ODD_NUMBERS), st.integers(), st.floats()),
)
def test_a_number_is_in_its_range_and_of_its_type_or_refused_with_key_and_value(
    path: str, value: Any
) -> None:
    kind, limits = NUMBERS[path]
    try:
        recipe = recipes.study_from(with_value(path, value))
    except UserError as error:
        assert f"study.{path}" in str(error) and "\n" not in str(error)
        return
    held: Any = recipe
    for part in path.split("."):
        held = getattr(held, part)
    if path == "branches.trunk" and isinstance(held, str):
        return  # a checkpoint's name
    for number in held if isinstance(held, tuple) else [held]:
        if number is not None and not isinstance(number, dict):
            assert type(number) is kind and math.isfinite(number) and not limits.problem(number)
            if isinstance(value, (int, float)):
                assert number == kind(value)  # nothing was rounded


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("proxy.warmup", 2.0, "must be in \\[0, 1\\], but is 2.0"),
        ("proxy.betas", 1.0, "must be in \\[0, 1\\), but is 1.0"),
        ("proxy.clip", 0, "must be positive, but is 0.0"),
        ("proxy.keep", -1, "must be at least 0, but is -1"),
        ("proxy.tokens", 2**63, "must be in \\[1, 9007199254740992\\]"),
        ("confirm_seeds", 0, "must be at least 1, but is 0"),
        ("space.upper", 1.5, "must be in \\[0, 1\\], but is 1.5"),
    ],
)
def test_what_a_number_may_be_is_said(path: str, value: Any, said: str) -> None:
    with pytest.raises(UserError, match=rf"study\.{path}(\[0\])? {said}"):
        recipes.study_from(with_value(path, value))
    recipes.study_from(with_value(path, value), stored=True)  # a study that ran opens


def test_numbers_of_corpora_proxies_and_scores_have_ranges_too() -> None:
    with pytest.raises(UserError, match=r"corpus\.heldout must be in \[0, 0.5\]"):
        recipes.corpus_from({"inputs": ["a"], "heldout": 2})
    with pytest.raises(UserError, match=r"study\.corpus\.domains must be at least 2"):
        recipes.study_from({**MINIMAL, "corpus": {"inputs": ["a"], "output": "b", "domains": 1}})
    with pytest.raises(UserError, match=r"proxy\.decay must be"):
        recipes.read_proxy({"decay": -0.1})
    with pytest.raises(UserError, match=r"study\.score\.a/acc must be a finite number, but is inf"):
        recipes.study_from({**MINIMAL, "score": {"a/acc": math.inf}})
    with pytest.raises(UserError, match=r"study\.score: every mixture scores 0, .*: a/acc; give"):
        recipes.study_from({**MINIMAL, "score": {"a/acc": 0}})


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"score": ["a/acc"]}, r"study\.score: 'a/acc' is better high, but direction is minimize"),
        (
            {"score": {"a/bpb": 1, "a/acc_norm": 0.5}},
            r"'a/acc_norm' .* Say direction: maximize, or",
        ),
        ({"score": ["a/bpb"], "direction": "maximize"}, r"'a/bpb' is better low, .*\{a/bpb: -1\}"),
        ({"also": {"b": {"score": ["b/acc"]}}}, r"study\.also\.b\.score: 'b/acc' is better high"),
    ],
)
def test_a_score_is_not_searched_for_where_it_is_worst(changes: dict[str, Any], wrong: str) -> None:
    with pytest.raises(UserError, match=wrong):
        recipes.study_from({**MINIMAL, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"score": {"a/bpb": 1, "a/acc": -0.5}},
        {"score": {"a/bpb": -1}, "direction": "maximize"},
        {"score": ["mine/quality"]},
        {"score": ["a/acc"], "direction": "maximize"},
    ],
)
def test_a_score_may_go_either_way_if_its_sign_says_so(changes: dict[str, Any]) -> None:
    assert recipes.study_from({**MINIMAL, **changes}).score == changes["score"]
    recipes.study_from({**MINIMAL, "score": ["a/acc"]}, stored=True)  # a study that ran opens


def test_powers_of_ten_that_were_stored_as_text_are_the_numbers_that_they_are_read_as_now() -> None:
    old = {"options": {"lr": "1e-3", "steps": ["150e6", "2"], "name": "x"}}
    new = {"options": {"lr": 1e-3, "steps": [150e6, "2"], "name": "x"}}
    assert recipe_files.difference(old, new) == []
    assert recipe_files.difference(new, old), "quoted, it is text"
    for other in (2e-3, "0.001", True):
        (line,) = recipe_files.difference({"lr": "1e-3"}, {"lr": other})
        assert line.startswith('lr: "1e-3" -> ')


def test_a_difference_counts_the_rungs_of_a_long_ladder_that_the_other_recipe_lacks() -> None:
    ladder = [{"tokens": 4096, "command": "x" * 300}, {"tokens": 8192}]
    assert recipe_files.difference({"ladder": []}, {"ladder": ladder}) == [
        "ladder: [] -> 2 entries"
    ]
    assert recipe_files.difference({"ladder": [{"tokens": 1}]}, {}) == [
        'ladder: [{"tokens": 1}] -> null'
    ]
