"""Old trials in new domains: mapped exactly where that is sound, left out where it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb_opt.attributes import RECIPE
from climb_opt.errors import UserError
from climb_opt.history import set_aggregate
from climb_opt.recipes import StudyRecipe, read_study, to_json
from climb_opt.simplex import MixtureSpace
from climb_opt.view import read_history, store_space
from climb_opt.warmstart import Lineage, begin, import_csv, read_lineage, warm_start
from synthetic_study import Shape, build_study

OLD = {"web": 60.0, "code": 30.0, "math": 10.0}


def study_of(
    name: str = "new",
    direction: str = "minimize",
    space: MixtureSpace | None = None,
    recipe: StudyRecipe | None = None,
) -> optuna.Study:
    """A study of a space, of `OLD` by default, and of a recipe, if any."""
    study = optuna.create_study(study_name=name, direction=direction)
    store_space(study, space or MixtureSpace(OLD))
    if recipe is not None:
        study.set_user_attr(RECIPE, to_json(recipe))
    return study


def old_study(mixtures: list[dict[str, float]]) -> optuna.Study:
    study, space = study_of("old"), MixtureSpace(OLD)
    for k, mixture in enumerate(mixtures):
        study.add_trial(
            optuna.trial.create_trial(
                params=space.params(space.weights(mixture)),
                distributions=space.distributions(),
                value=1.0 + k,
                user_attrs={"climb/components": {"a/bpb": 1.0 + k}, "climb/slot": k},
            )
        )
    return study


def test_unchanged_domains_map_to_themselves() -> None:
    lineage = read_lineage(OLD, OLD)
    assert lineage.changes() == []
    assert lineage.map({"web": 0.5, "code": 0.5, "math": 0.0}) == (
        {"web": 0.5, "code": 0.5, "math": 0.0},
        0.0,
    )


def test_an_added_domain_weighs_nothing_in_old_runs() -> None:
    lineage = read_lineage(OLD, {**OLD, "law": 20.0})
    assert lineage.added() == ["law"]
    weights, distance = lineage.map({"web": 0.2, "code": 0.3, "math": 0.5})
    assert weights == {"web": 0.2, "code": 0.3, "math": 0.5, "law": 0.0}
    assert distance == 0.0


def test_a_removed_domain_costs_the_weight_it_had() -> None:
    lineage = read_lineage(OLD, {"web": 60.0, "code": 30.0})
    assert lineage.removed() == ["math"]
    assert lineage.map({"web": 0.4, "code": 0.6, "math": 0.0})[1] == 0.0
    assert lineage.map({"web": 0.4, "code": 0.5, "math": 0.1})[1] == pytest.approx(0.1)


def test_a_split_shares_the_weight_by_tokens(tmp_path: Path) -> None:
    file = tmp_path / "lineage.yaml"
    file.write_text("python: code\nother: code\n", encoding="utf-8")
    lineage = read_lineage(OLD, {"web": 60.0, "python": 20.0, "other": 10.0, "math": 10.0}, file)
    weights, distance = lineage.map({"web": 0.4, "code": 0.3, "math": 0.3})
    assert weights == pytest.approx({"web": 0.4, "python": 0.2, "other": 0.1, "math": 0.3})
    assert distance == pytest.approx(0.0)
    assert lineage.changes() == ["split 'code' into 'python' and 'other'"]


def test_a_merge_is_exact_only_in_the_ratio_of_tokens(tmp_path: Path) -> None:
    file = tmp_path / "lineage.yaml"
    file.write_text("technical: [code, math]\n", encoding="utf-8")
    lineage = read_lineage(OLD, {"web": 60.0, "technical": 40.0}, file)
    weights, distance = lineage.map({"web": 0.6, "code": 0.3, "math": 0.1})
    assert weights == pytest.approx({"web": 0.6, "technical": 0.4})
    assert distance == pytest.approx(0.0)
    # All of the weight on math: three quarters of it would now be read from code.
    assert lineage.map({"web": 0.6, "code": 0.0, "math": 0.4})[1] == pytest.approx(0.3)
    assert lineage.changes() == ["merged 'code' and 'math' into 'technical'"]


@given(st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3))
@settings(max_examples=25)
def test_mapped_weights_sum_to_one_and_distances_are_shares(raw: list[float]) -> None:
    mixture = dict(zip(OLD, (np.array(raw) / sum(raw)).tolist(), strict=True))
    lineage = Lineage(
        OLD, {"web": 60.0, "technical": 40.0}, {"web": ("web",), "technical": ("code", "math")}
    )
    weights, distance = lineage.map(mixture)
    assert sum(weights.values()) == pytest.approx(1.0)
    assert 0.0 <= distance <= 1.0


def test_a_study_goes_from_8_to_10_domains() -> None:
    old = build_study(Shape(domains=8, rounds=(8, 4), name="eight", failures=1))
    before = old.user_attrs["climb/corpus"]["tokens"]
    split, *kept = before
    tokens = {name: before[name] for name in kept}
    tokens.update({f"{split}/a": before[split] * 0.75, f"{split}/b": before[split] * 0.25})
    tokens["new"] = 1e6
    parents = {name: (name,) for name in kept}
    parents.update({f"{split}/a": (split,), f"{split}/b": (split,), "new": ()})
    space = MixtureSpace(tokens)
    study = study_of("ten", space=space)
    result = warm_start(study, old, Lineage(before, tokens, parents))
    assert len(space) == 10
    assert (result.exact, result.close) == (14, 0)  # 12 slots and 2 baselines; the failed one not
    history = read_history(study, space)
    assert len(history) == 14
    assert sorted(history.values) == sorted(
        t.value for t in old.get_trials(deepcopy=False) if t.value is not None
    )
    assert all("climb/slot" not in t.user_attrs for t in history.trials)
    assert any("split" in line for line in result.lines())


def test_trials_that_do_not_carry_over_are_counted_with_the_reason() -> None:
    old = old_study(
        [
            {"web": 0.5, "code": 0.5, "math": 0.0},
            {"web": 0.5, "code": 0.49, "math": 0.01},
            {"web": 0.2, "code": 0.2, "math": 0.6},
        ]
    )
    new = {"web": 60.0, "code": 30.0}
    study = study_of(space=MixtureSpace(new))
    result = warm_start(study, old, read_lineage(OLD, new))
    assert (result.exact, result.close, sum(result.left_out.values())) == (1, 1, 1)
    assert "removed" in next(iter(result.left_out))


def test_bounds_of_the_new_study_are_kept() -> None:
    old = old_study(
        [{"web": 0.9, "code": 0.1, "math": 0.0}, {"web": 0.4, "code": 0.6, "math": 0.0}]
    )
    study = study_of(space=MixtureSpace(OLD, upper={"web": 0.5}))
    result = warm_start(study, old, read_lineage(OLD, OLD))
    assert result.exact == 1
    assert "bounds" in next(iter(result.left_out))


def test_starting_twice_imports_once() -> None:
    old, study = old_study([dict.fromkeys(OLD, 1 / 3)]), study_of()
    for _ in range(2):
        result = warm_start(study, old, read_lineage(OLD, OLD))
    assert result.already and len(study.get_trials()) == 1
    assert "before" in result.lines()[0]


def test_components_and_origin_come_along() -> None:
    old, study = old_study([dict.fromkeys(OLD, 1 / 3)]), study_of()
    set_aggregate(study, {"a/bpb": 1.0})
    space = MixtureSpace(OLD)
    warm_start(study, old, read_lineage(OLD, OLD))
    history = read_history(study, space)
    assert history.components is not None and history.components.tolist() == [[1.0]]
    assert history.trials[0].user_attrs["climb/imported"]["study"] == "old"


def guarded(**rails: float) -> StudyRecipe:
    return replace(read_study("demo"), constraints={f"{k}/bpb": v for k, v in rails.items()})


def test_imported_trials_are_judged_by_the_new_guard_rails() -> None:
    old = old_study([{"web": 1.0}, {"code": 1.0}, {"math": 1.0}])
    study, other = study_of(recipe=guarded(a=2.5)), study_of("b", recipe=guarded(c=1.0))
    warm_start(study, old, read_lineage(OLD, OLD))
    assert [t.constraints["a/bpb"] <= 0 for t in study.trials] == [True, True, False]
    result = warm_start(other, old, read_lineage(OLD, OLD))
    assert result.exact == 0
    assert any("'c/bpb', which a guard-rail needs" in reason for reason in result.left_out)


def test_a_csv_needs_the_columns_of_the_guard_rails(tmp_path: Path) -> None:
    file = write(tmp_path / "runs.csv", "web,code,math,value,a/bpb\n1,0,0,1.0,3.0\n")
    study = study_of(recipe=guarded(a=2.5))
    import_csv(study, file)
    assert study.trials[0].constraints == {"a/bpb": 0.5}
    with pytest.raises(UserError, match="'c/bpb', which a guard-rail needs"):
        import_csv(study_of("b", recipe=guarded(c=1.0)), file)


def test_scores_of_another_proxy_are_refused() -> None:
    recipe = read_study("demo", ["rounds=[16, 8, 4]"])
    other = read_study("demo", ["rounds=[16, 8, 4]", "proxy.tokens=999"])
    with pytest.raises(UserError, match=r"cannot be compared.*proxy.tokens.*\. Begin from another"):
        warm_start(study_of(recipe=recipe), study_of("old", recipe=other), read_lineage(OLD, OLD))


def test_other_directions_are_refused() -> None:
    with pytest.raises(UserError, match="another direction"):
        warm_start(study_of(direction="maximize"), old_study([]), read_lineage(OLD, OLD))


def test_a_domain_that_changed_under_its_name_is_asked_about() -> None:
    with pytest.raises(UserError, match="held 60 tokens in the old study and holds 90"):
        read_lineage(OLD, {**OLD, "web": 90.0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("law: [statutes]", "comes from 'statutes', which the old study"),
        ("nope: web", "the new study has no domain 'nope'"),
        ("- web", "maps new domains to old ones"),
        ("web: 3", "expected an old domain or a list"),
        ("web: [web, code]\ncode: web", "is split over"),
        ("{", "not readable as YAML"),
    ],
)
def test_broken_lineages_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "lineage.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_lineage(OLD, {**OLD, "law": 5.0}, file)


def test_a_lineage_reads_names_as_text(tmp_path: Path) -> None:
    old, new = {"nb": 3.0, "no": 2.0, "null": 1.0}, {"on": 5.0, "1.50": 1.0, "new": 1.0}
    file = tmp_path / "lineage.yaml"
    file.write_text("on: [nb, no]\n1.50: null\nnew:\n", encoding="utf-8")
    lineage = read_lineage(old, new, file)
    assert lineage.parents == {"on": ("nb", "no"), "1.50": ("null",), "new": ()}
    del old["null"]
    assert read_lineage(old, new, file).parents["1.50"] == ()


def test_a_lineage_asks_after_names_that_are_nearly_known(tmp_path: Path) -> None:
    file = tmp_path / "lineage.yaml"
    file.write_text("law: Web\n", encoding="utf-8")
    with pytest.raises(UserError, match="Did you mean 'web'"):
        read_lineage(OLD, {**OLD, "law": 5.0}, file)


# --- CSV -----------------------------------------------------------------------------------------


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_of_runs_is_read(tmp_path: Path) -> None:
    file = write(
        tmp_path / "runs.csv",
        "run,w/web,code,math,value\n1,0.5,0.3,0.2,1.25\n2,0.333,0.333,0.334,1.5\n",
    )
    study, space = study_of(), MixtureSpace(OLD)
    result = import_csv(study, file)
    history = read_history(study, space)
    assert result.exact == 2
    assert history.values.tolist() == [1.25, 1.5]
    assert history.weights.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert import_csv(study, file).already


def test_percentages_and_rounded_rows_of_a_csv_are_read_and_scaling_is_said(
    tmp_path: Path,
) -> None:
    rows = "50%,30%,20%,1.25\n0.33,0.33,0.33,1.5\n0.5,0.3,0.2,1\n"
    file = write(tmp_path / "runs.csv", "web,code,math,value\n" + rows)
    study, space = study_of(), MixtureSpace(OLD)
    result = import_csv(study, file)
    assert read_history(study, space).weights[:, 0] == pytest.approx([0.5, 1 / 3, 0.5])
    assert "Scaled to 1: 1 rows, whose weights sum to 0.99" in " ".join(result.lines())


def test_components_of_a_csv_make_up_the_score(tmp_path: Path) -> None:
    file = write(tmp_path / "runs.csv", "web,code,math,a/bpb,b/bpb\n0.5,0.3,0.2,1.0,2.0\n")
    study, space = study_of(), MixtureSpace(OLD)
    set_aggregate(study, {"a/bpb": 0.5, "b/bpb": 0.5})
    import_csv(study, file)
    history = read_history(study, space)
    assert history.values.tolist() == [1.5]
    assert history.components is not None


def test_a_missing_column_weighs_nothing_and_is_said(tmp_path: Path) -> None:
    file = write(tmp_path / "runs.csv", "web,code,value\n0.5,0.5,1.0\n")
    result = import_csv(study_of(), file)
    assert "no column for 'math', so 0" in result.lines()[1]
    file = write(tmp_path / "case.csv", "web,code,Math,value\n0.5,0.5,0.1,1.0\n")
    said = import_csv(study_of(), file).lines()[1]
    assert "no column for 'math', so 0 (Did you mean 'Math'?)" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column is named like a domain"),
        ("a,b\n1,2\n", "no column is named like a domain"),
        ("web,code,math\n0.5,0.3,0.2\n", "no column 'value'"),
        ("web,code,math,value\n", "0 of 0 rows are unusable; the file has no rows. Up to a tenth"),
        ("web,code,math,value\n0.5,0.3,0.1,1\n", "line 2: its weights sum to 0.9"),
        ("web,code,math,value\n0.5,0.3,0.2,nan\n", "line 2: column 'value' holds 'nan'"),
        ("web,code,math,value\n1.5,-0.5,0,1\n", "line 2: a weight is negative"),
        ("web,web,value\n0.5,0.5,1\n", "column 'web' appears twice"),
        ("web,w/web,value\n0.5,0.5,1\n", "'w/web' and 'web' are of one domain"),
        ("web,code,math,value\n50,30,20,1\n", "sum to 100, not to 1. Percentages"),
    ],
)
def test_broken_csvs_are_named_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_csv(study_of(), write(tmp_path / "runs.csv", text))


def test_a_few_bad_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = ["0.5,0.3,0.2,1.0"] * 20 + ["0.5,0.3,0.2,"]
    file = write(tmp_path / "runs.csv", "web,code,math,value\n" + "\n".join(rows) + "\n")
    result = import_csv(study_of(), file)
    assert result.exact == 20
    assert "line 22" in " ".join(result.lines())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        import_csv(study_of(), tmp_path / "none.csv")


# --- by name -------------------------------------------------------------------------------------


def test_a_study_and_a_csv_are_imported_once(tmp_path: Path) -> None:
    storage = optuna.storages.InMemoryStorage()
    build_study(Shape(domains=4, rounds=(6,), name="old", failures=0), storage)
    new = build_study(Shape(domains=4, rounds=(6,), name="new", done=0, baselines=()), storage)
    header = ",".join([*(f"domain-{k:03d}" for k in range(4)), "value"])
    write(tmp_path / "runs.csv", f"{header}\n0.25,0.25,0.25,0.25,1.5\n")
    lines = begin(new, "old", csv=tmp_path / "runs.csv")
    assert lines[0] == "From old: 8 trials exactly, 0 nearly."
    assert len(new.get_trials(deepcopy=False)) == 9
    begin(new, "old", csv=tmp_path / "runs.csv")
    assert len(new.get_trials(deepcopy=False)) == 9
    assert begin(new) == []


def test_a_lineage_without_a_study_is_refused() -> None:
    with pytest.raises(UserError, match="give --from STUDY too"):
        begin(study_of(), lineage="x.yaml")


def test_an_older_study_that_is_missing_is_named() -> None:
    storage = optuna.storages.InMemoryStorage()
    new = build_study(Shape(domains=4, rounds=(6,), name="new", done=0), storage)
    with pytest.raises(UserError, match="No study 'olden'"):
        begin(new, "olden")
