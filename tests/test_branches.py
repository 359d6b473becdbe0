"""A trunk and its branches in a study: recipe, groups, plan, and when they are trusted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from branching import branched
from climb_opt import recipes
from climb_opt.attributes import SLOT
from climb_opt.errors import UserError
from climb_opt.ladder.agreement import Agreement
from climb_opt.ladder.branches.before import Before
from climb_opt.ladder.branches.groups import branches_of
from climb_opt.ladder.branches.recipe import branch_tokens, trunk_steps
from climb_opt.ladder.branches.slots import check_mixtures
from climb_opt.ladder.branches.trust import Verdict
from climb_opt.plan import Plan, plan_of
from climb_opt.proxy.ladders import study_ladder
from climb_opt.recipes import StudyRecipe
from climb_opt.shards import Corpus
from climb_opt.simplex import MixtureSpace
from climb_opt.study_recipe import BranchesRecipe
from training import SMALL

TOKENS = {"web": 4000.0, "code": 2000.0, "math": 1000.0}
PLAIN: dict[str, Any] = {
    "corpus": "c",
    "proxy": {"tokens": 65_536, "batch_tokens": 1024},
    "evaluators": ["heldout"],
    "score": ["t/bpb"],
}


def read(**keys: Any) -> StudyRecipe:
    return recipes.study_from({**PLAIN, **keys})


def test_rounds_name_read_outs_and_the_target() -> None:
    rounds = [{"trials": 8, "rung": "merge"}, {"trials": 4, "rung": "target"}]
    recipe = read(branches={"read": ["merge", "ensemble"]}, rounds=rounds)
    assert recipe.readouts == ("ensemble", "merge")  # cheapest first, however they were named
    assert (recipe.rounds, recipe.rungs) == ((8, 4), (1, 2))
    again = recipes.study_from(json.loads(recipes.to_json(recipe)), stored=True)
    assert again == recipe


def test_a_ladder_lies_above_the_read_outs() -> None:
    rounds = [{"trials": 8, "rung": "merge"}, {"trials": 4, "proxy": {"tokens": 8192}}]
    rounds += [{"trials": 2, "proxy": {}}]
    assert read(branches={}, rounds=rounds).rungs == (0, 1, 2)


def test_a_trunk_that_is_a_checkpoint_is_the_proxys() -> None:
    rounds = [{"trials": 4, "rung": "target"}]
    recipe = read(branches={"trunk": "some/model", "read": []}, rounds=rounds)
    assert recipe.proxy.model.checkpoint == "some/model" and recipe.branches is not None
    assert recipe.branches.share == 0.0 and trunk_steps(recipe.branches, 64) == 0
    assert Before.of(recipe, TOKENS, ()).stages == ()  # nothing is trained before the rounds


@pytest.mark.parametrize(("share", "steps"), [(0.5, 5), (0.01, 1), (0.99, 9)])
def test_a_share_of_the_target_leaves_steps_to_both_sides(share: float, steps: int) -> None:
    assert trunk_steps(BranchesRecipe(trunk=share), 10) == steps


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"branches": {}}, "sampler 'climb' does not choose rungs.*rung: merge"),
        ({"branches": {"trunk": 0}}, "0 leaves nothing to branch from"),
        ({"branches": {"trunk": 1.0}}, r"trunk must be in \[0, 1\)"),
        ({"branches": {"trunk": 1.5}}, r"trunk must be in \[0, 1\)"),
        ({"branches": {"general": 1.0}}, r"general must be in \[0, 1\)"),
        ({"branches": {"tokens": 100}}, "100 is less than one step of 1,024"),
        ({"branches": {"read": ["vote"]}}, "must be one of mixmin, ensemble, merge"),
        ({"branches": {"check": 2}}, "check must be at least 4"),
        ({"branches": {}, "phases": [0.5, 0.5]}, "of one mixture.*2 phases"),
        ({"branches": {"length": 2}}, "unknown key 'length'"),
        ({"branches": {"groups": {"a": ["x"], "b": ["x"]}}}, "'x' is in 'a' and in 'b'"),
        ({"branches": {"groups": {"a": []}}}, "name a domain"),
        ({"branches": {}, "proxy": {"command": "train"}}, "a command trains its own models"),
        (
            {"branches": {"trunk": "a"}, "proxy": {"model": {"checkpoint": "b"}}},
            "'a', but proxy.model.checkpoint is 'b'",
        ),
        ({"rounds": [{"trials": 2, "rung": "merge"}]}, "nothing is read off branches by 'merge'"),
        (
            {"branches": {}, "rounds": [{"trials": 2, "rung": "ensemble"}]},
            "nothing is read off branches by 'ensemble'",
        ),
        ({"branches": {"trunk": 0.8}, "proxy": {**PLAIN["proxy"], "average": 0.5}}, "the last 0.5"),
    ],
)
def test_what_does_not_go_together_is_one_line(keys: dict[str, Any], said: str) -> None:
    keys = {"rounds": [{"trials": 2, "rung": "target"}], **keys} if len(keys) == 1 else keys
    if "does not choose" in said:
        keys["rounds"] = [4]
    with pytest.raises(UserError, match=said) as error:
        read(**{"rounds": [{"trials": 2, "rung": "target"}], **keys})
    assert "\n" not in str(error.value)


# --- groups --------------------------------------------------------------------------------------


def test_domains_too_small_for_a_branch_are_grouped() -> None:
    own = branches_of(BranchesRecipe(general=0.5, epochs=1.0), TOKENS, 2000)
    assert [b.domains for b in own.branches] == [("web",), ("code",), ("math",)]
    both = branches_of(BranchesRecipe(general=0.5, epochs=1.0), TOKENS, 2400)
    assert [b.domains for b in both.branches] == [("web",), ("code", "math")]
    (grouped,) = both.grouped
    assert both.notes[0].startswith("code, math have one branch") and own.notes == ()
    assert grouped.mixture["code"] == pytest.approx(0.5 * 2 / 7 + 0.5 * 2 / 3)


def test_one_branch_for_all_domains_is_refused_where_a_study_is_made(tiny_corpus: Corpus) -> None:
    few = branched(tiny_corpus, BranchesRecipe(tokens=2048, most=1, read=("merge",)))
    with pytest.raises(UserError, match=r"all domains would be one branch.*branches.most \(1\)"):
        study_ladder(few, tiny_corpus.tokens(), tiny_corpus.vocab_size)
    plan_of(few, None, tiny_corpus.tokens())  # a study that was made before opens


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"trunk": ["web", "math"]}, "'trunk' means something else; name that group otherwise"),
        ({"mixmin": ["web"]}, "'mixmin' means something else; .* such as 'my-mixmin'"),
        ({"code": ["web", "math"]}, "'code' is a domain's branch, too; name that group otherwise"),
    ],
)
def test_a_group_with_the_name_of_another_part_is_refused_where_a_study_is_made(
    tiny_corpus: Corpus, groups: dict[str, list[str]], message: str
) -> None:
    named = branched(tiny_corpus, BranchesRecipe(tokens=2048, read=("merge",), groups=groups))
    with pytest.raises(UserError, match=f"study.branches.groups: {message}"):
        study_ladder(named, tiny_corpus.tokens(), tiny_corpus.vocab_size)
    plan_of(named, None, tiny_corpus.tokens())  # a study that was made before opens


def test_named_groups_stay_and_unknown_domains_are_refused() -> None:
    recipe = BranchesRecipe(groups={"text": ["web", "math"]})
    assert branches_of(recipe, TOKENS, 2048).names == ("text", "code")
    many = {f"d{number}": 1e6 - number for number in range(6)}
    named = branches_of(BranchesRecipe(groups={"g": ["d3"]}, most=3), many, 2048)
    assert named.names == ("d4+2 others", "d1+d2", "g")  # which is one of the three
    with pytest.raises(UserError, match=r"no domain 'mth'\. Did you mean 'math'"):
        branches_of(BranchesRecipe(groups={"text": ["mth"]}), TOKENS, 2048)


def test_a_domain_without_tokens_has_no_branch() -> None:
    found = branches_of(BranchesRecipe(), {**TOKENS, "empty": 0}, 2048)
    assert "empty" not in [d for branch in found.branches for d in branch.domains]
    assert found.names == branches_of(BranchesRecipe(), TOKENS, 2048).names
    named = BranchesRecipe(groups={"none": ["empty"]})
    assert branches_of(named, {**TOKENS, "empty": 0}, 2048).names == found.names


@given(
    sizes=st.lists(st.floats(1, 1e6), min_size=1, max_size=40),
    most=st.integers(1, 20),
    general=st.floats(0, 0.9),
    length=st.integers(1, 10**6),
)
def test_every_domain_is_in_one_branch(
    sizes: list[float], most: int, general: float, length: int
) -> None:
    tokens = {f"d{i}": size for i, size in enumerate(sizes)}
    found = branches_of(BranchesRecipe(most=most, general=general), tokens, length)
    assert sorted(d for b in found.branches for d in b.domains) == sorted(tokens)
    assert len(found.branches) <= most and len(set(found.names)) == len(found.names)
    for branch in found.branches:
        assert sum(branch.mixture.values()) == pytest.approx(1)
        own = (1 - general) * length
        assert len(found.branches) == 1 or own <= 4 * sum(tokens[d] for d in branch.domains)
    mixture = {d: n / sum(sizes) for d, n in tokens.items()}
    assert found.shares(mixture).sum() == pytest.approx(1)


# --- the plan ------------------------------------------------------------------------------------


def trial(number: int, slot: Any, value: float | None = None, state: Any = None) -> FrozenTrial:
    if state is None:
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
    made = create_trial(state=state, value=value, user_attrs={SLOT: slot})
    made.number = number
    return made


def walked(plan: Plan, values: Mapping[Any, float], lost: tuple[str, ...] = ()) -> list[Any]:
    """The slots in the order in which one worker starts them; those `lost` fail."""
    done: list[FrozenTrial] = []
    order: list[Any] = []
    while (step := plan.next(done)).kind == "go":
        slot = step.slot
        order.append(slot)
        failed = TrialState.FAIL if slot in lost else None
        value = None if failed or str(slot).startswith("branch/") else values.get(slot, 0.0)
        done.append(trial(len(done), slot, value, failed))
        assert len(done) < 100
    assert step.kind == "done"
    return order


@pytest.fixture
def plan(tiny_corpus: Corpus) -> Plan:
    recipe = branched(tiny_corpus)
    return plan_of(recipe, study_ladder(recipe, TOKENS, 300), TOKENS)


def agreeing(plan: Plan, sign: float = 1.0) -> dict[str, float]:
    trained = {slot: float(i) for i, slot in enumerate(plan.before.checks)}
    return trained | {read: sign * trained[slot] for slot, read in plan.before.read_too()}


def test_trunk_branches_and_checks_come_before_the_rounds(plan: Plan) -> None:
    order = walked(plan, agreeing(plan))
    assert order[0] == "branch/trunk"
    assert order[1:4] == ["branch/web", "branch/code", "branch/math"]
    assert order[4:10] == ["baseline/prior", "baseline/uniform", *(f"check/{i}" for i in range(4))]
    assert set(order[10:22]) == {read for _, read in plan.before.read_too()}
    assert order[22:] == [0, 1, 2, 3, 4, 5]
    assert [plan.rung_of(slot) for slot in (order[0], order[4], order[10], order[21], 0, 5)] == [
        *(2, 2, 0, 1, 1, 2)
    ]


def test_stages_wait_for_one_another(plan: Plan) -> None:
    running = trial(0, "branch/trunk", state=TrialState.RUNNING)
    assert plan.next([running]).kind == "wait"
    assert plan.next([trial(0, "branch/trunk")]).slot == "branch/web"


def test_rounds_of_a_read_out_that_ranks_otherwise_are_left_out(plan: Plan) -> None:
    order = walked(plan, agreeing(plan, -1.0))
    assert order[22:] == [4, 5]  # the target's


def test_a_branch_that_cannot_be_trained_leaves_the_search_without_branches(plan: Plan) -> None:
    order = walked(plan, agreeing(plan), lost=("branch/code",))
    assert order.count("branch/code") == 2  # its attempts
    assert order[5:] == ["baseline/prior", "baseline/uniform", 4, 5]


def test_a_verdict_says_what_was_measured_and_what_follows(plan: Plan) -> None:
    def verdicts(values: Mapping[str, float], lost: str = "") -> tuple[Verdict, ...]:
        slots = [slot for stage in plan.before.stages for slot in stage]
        failed = {"state": TrialState.FAIL}
        done = [
            trial(i, slot, values.get(slot), **(failed if slot == lost else {}))
            for i, slot in enumerate(slots + ([lost] if lost else []))
        ]
        return plan.verdicts(done)

    good = verdicts(agreeing(plan))[1]
    assert str(good).startswith("merging holds: rank correlation with 6 trained") and good.holds
    bad = verdicts(agreeing(plan, -1.0))[0]
    assert "the ensemble does not hold here" in str(bad) and not bad.holds
    assert "as if it had no branches" in str(bad)
    lost = verdicts(agreeing(plan), "branch/math")[1]
    assert "branch/math could not be trained" in str(lost) and not lost.holds
    assert plan.verdicts([trial(0, "branch/trunk")]) == ()  # nothing is known yet


@pytest.mark.parametrize(
    ("estimate", "low", "holds"),
    [(0.6, 0.3, True), (0.59, 0.3, False), (0.9, 0.29, False), (math.nan, -1.0, False)],
)
def test_a_read_out_holds_where_its_correlation_and_the_intervals_end_are_high(
    estimate: float, low: float, holds: bool
) -> None:
    assert Verdict("merge", Agreement(0, 1, 6, estimate, low, 1.0)).holds == holds


def test_a_trunk_alone_needs_no_branches(tiny_corpus: Corpus) -> None:
    recipe = branched(tiny_corpus, BranchesRecipe(read=()), rungs=())
    plan = plan_of(recipe, study_ladder(recipe, TOKENS, 300), TOKENS)
    order = walked(plan, {})
    assert order[:3] == ["branch/trunk", "baseline/prior", "baseline/uniform"]
    assert order[3:] == list(range(6))


def test_a_study_without_branches_has_the_plan_it_had(tiny_corpus: Corpus) -> None:
    recipe = branched(tiny_corpus, rungs=())
    plan = plan_of(replace(recipe, branches=None), None, TOKENS)
    assert plan == Plan((4, 2), ("baseline/prior", "baseline/uniform"), 2)


# --- costs and checks ----------------------------------------------------------------------------


def test_a_trial_costs_what_comes_after_the_trunk(tiny_corpus: Corpus) -> None:
    recipe = branched(tiny_corpus)
    ladder = study_ladder(recipe, TOKENS, 300)
    alone = study_ladder(replace(recipe, branches=None, ladder=(SMALL,)), TOKENS, 300)
    assert ladder is not None and alone is not None
    assert [rung.name for rung in ladder.rungs[:2]] == ["ensemble", "merge"]
    assert ladder.costs[-1] == pytest.approx(alone.costs[-1] / 2)
    assert branch_tokens(recipe.branches or BranchesRecipe(), SMALL) == 2048
    assert branch_tokens(BranchesRecipe(trunk=0.25), SMALL) == 12 * 512  # as long as a trial


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), count=st.integers(4, 10))
def test_mixtures_of_a_check_lie_apart_and_are_no_corners(seed: int, count: int) -> None:
    space = MixtureSpace({f"d{i}": 1.0 + i for i in range(8)})
    rows = np.array([space.weights(m) for m in check_mixtures(space, count, seed).values()])
    assert rows.shape == (count, 8) and rows.max() < 0.9
    assert check_mixtures(space, count, seed) != check_mixtures(space, count, seed + 1)
    apart = np.linalg.norm(np.sqrt(rows)[:, None] - np.sqrt(rows), axis=2)
    assert apart[~np.eye(count, dtype=bool)].min() > 0.2
