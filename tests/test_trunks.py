"""A trial goes on from the stable checkpoint of the rung below, and pays only the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

pytest.importorskip("torch")
from climb_opt.attributes import FACTS, RUNG, SEED, SLOT
from climb_opt.errors import Interrupted, UserError
from climb_opt.ladder import Ladder
from climb_opt.objective import ProxyObjective
from climb_opt.proxy.job import Job
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import Choice, ProxyRecipe, StudyRecipe
from climb_opt.retrain.sibling import at_target
from climb_opt.schedules import Phase, mean_mixture
from climb_opt.shards import Corpus
from training import SMALL, Watch

# 16 steps, of which 1 warms up and 3 decay; 8, of which 1 and 2; 12, of which 1 and 2.
UPPER = replace(SMALL, go_on=True)
LOWER = replace(SMALL, tokens=SMALL.tokens // 2, warmup=0.125, min_lr=1e-4)
MIDDLE = replace(UPPER, tokens=SMALL.tokens * 3 // 4, warmup=1 / 12)
MIXTURE = {"web": 0.5, "code": 0.3, "math": 0.2}

Make = Callable[..., ProxyObjective]


@pytest.fixture
def make(tiny_corpus: Corpus, tmp_path: Path) -> Make:
    def objective(
        *proxies: ProxyRecipe,
        folder: str = "runs",
        stop: Callable[[], bool] = lambda: False,
        repetition: Any = "whole",
        phases: tuple[float, ...] = (),
    ) -> ProxyObjective:
        recipe = StudyRecipe(
            phases=phases,
            corpus=str(tiny_corpus.path),
            proxy=proxies[-1],
            ladder=proxies,
            repetition=repetition,
            evaluators=(Choice("heldout", {"target": "sums", "max_tokens": 1000}),),
            score=["sums/bpb"],
        )
        return ProxyObjective(tiny_corpus, recipe, directory=tmp_path / folder, stop=stop)

    return objective


def tried(
    objective: ProxyObjective, rung: int, slot: int = 0, seed: int = 0, **mixture: float
) -> tuple[float, dict[str, Any]]:
    """Score and facts of a trial on a rung."""
    study = optuna.create_study()
    params = objective.space.params(objective.space.weights(mixture or MIXTURE))
    study.enqueue_trial(params, user_attrs={SLOT: slot, RUNG: rung, SEED: seed})
    trial = study.ask()
    return float(objective(trial)), dict(trial.user_attrs[FACTS])  # type: ignore[arg-type]


def test_going_on_ends_where_training_from_the_start_ends_and_pays_the_difference(
    make: Make, tmp_path: Path
) -> None:
    alone, whole = tried(make(LOWER, UPPER, folder="alone"), 1)
    assert "went_on_at" not in whole and not list((tmp_path / "alone").rglob("*.pt"))
    objective = make(LOWER, UPPER)
    first, below = tried(objective, 0, slot=1)
    assert len(list((tmp_path / "runs" / "trunks").iterdir())) == 1
    score, facts = tried(objective, 1, slot=2)
    assert score == alone != first
    assert (facts["went_on_at"], facts["resumed_at"], facts["steps"]) == (6, 6, 16)
    assert facts["flops"] == pytest.approx(whole["flops"] * 10 / 16)
    assert below["flops"] == pytest.approx(whole["flops"] / 2)  # its decay is paid, too
    assert facts["train_loss"] == whole["train_loss"] and facts["epochs"] == whole["epochs"]
    assert not list((tmp_path / "runs").rglob("*.pt"))  # nothing is left


def test_the_rung_below_states_the_epochs_of_what_it_read(make: Make) -> None:
    objective = make(LOWER, UPPER)
    trainer = objective.rungs.trainers[0]
    assert isinstance(trainer, Trainer)
    epochs = tried(objective, 0)[1]["epochs"]
    read = sum(e * n for e, n in zip(epochs.values(), trainer.sequences.sizes, strict=True))
    assert read == pytest.approx(trainer.steps * trainer.batch)
    share = epochs["web"] * trainer.sequences.sizes[0] / read
    assert share == pytest.approx(MIXTURE["web"], abs=0.01)


def test_another_mixture_or_seed_begins_anew(make: Make) -> None:
    objective = make(LOWER, UPPER)
    tried(objective, 0)
    assert "went_on_at" not in tried(objective, 1, slot=1, seed=1)[1]
    assert "went_on_at" not in tried(objective, 1, slot=2, web=0.4, code=0.4, math=0.2)[1]
    assert tried(objective, 1, slot=3)[1]["went_on_at"] == 6


def in_phases(rung: int, share: float, last: str = "math") -> Job:
    schedule = (Phase(share, MIXTURE), Phase(1 - share, {last: 1.0}))
    return Job(f"slot-{rung}", mean_mixture(schedule), 0, rung=rung, schedule=schedule)


def test_a_trial_in_phases_goes_on_within_the_first_of_them(make: Make) -> None:
    alone = make(LOWER, UPPER, folder="alone").rungs.train(in_phases(1, 0.75), Watch())
    rungs = make(LOWER, UPPER).rungs
    below = rungs.train(in_phases(0, 0.75), Watch()).facts
    assert [phase["from_step"] for phase in below["phases"]] == [0, 6]
    assert below["phases"][1]["sequences"] == {"math": 64}
    # Another last phase goes on from the same trunk, to the bit of a run of its own.
    other = rungs.train(in_phases(1, 0.75, last="web"), Watch())
    whole = rungs.train(in_phases(1, 0.75), Watch())
    assert other.facts["went_on_at"] == whole.facts["went_on_at"] == 6
    assert whole.losses is not None and alone.losses is not None
    assert whole.losses.tolist() == alone.losses.tolist()
    # Another share of it is another trunk, and one mixture throughout is, too.
    assert "went_on_at" not in rungs.train(in_phases(1, 0.8), Watch()).facts
    plain = Job("slot-1", MIXTURE, 0, rung=1)
    assert "went_on_at" not in rungs.train(plain, Watch()).facts


def test_a_trunk_that_would_reach_a_later_phase_is_refused_with_what_to_change(make: Make) -> None:
    rungs = make(LOWER, UPPER).rungs
    with pytest.raises(UserError, match=r"from step 6 .* at step 4.*decay: 0\.5 or more"):
        rungs.train(in_phases(0, 0.5), Watch())
    with pytest.raises(UserError, match=r"study\.ladder\[0\] .*second phase begins at step 4"):
        make(LOWER, UPPER, phases=(0.5, 0.5))  # before anything is trained
    make(LOWER, UPPER, phases=(0.75, 0.25))
    rungs.train(in_phases(1, 0.5), Watch())  # from the start: nobody goes on from the last


def test_a_chain_of_rungs_goes_on_from_the_longest_that_is_there(
    make: Make, tmp_path: Path
) -> None:
    alone = tried(make(LOWER, MIDDLE, UPPER, folder="alone"), 2)[0]
    objective = make(LOWER, MIDDLE, UPPER)
    tried(objective, 0, slot=1)
    assert tried(objective, 1, slot=2)[1]["went_on_at"] == 6
    score, facts = tried(objective, 2, slot=3)
    assert (score, facts["went_on_at"]) == (alone, 10)
    tried(objective, 0, slot=4)
    score, facts = tried(objective, 2, slot=5)  # past the middle
    assert (score, facts["went_on_at"]) == (alone, 6)


def test_a_trial_that_went_on_is_stopped_and_resumes_and_still_pays_the_rest(make: Make) -> None:
    alone, whole = tried(make(LOWER, UPPER, folder="alone"), 1)
    looks = iter([False] * 12 + [True])  # 8 steps below, 4 above
    objective = make(LOWER, UPPER, stop=lambda: next(looks, False))
    tried(objective, 0, slot=1)
    with pytest.raises(Interrupted):
        tried(objective, 1, slot=2)
    score, facts = tried(objective, 1, slot=2)
    assert (score, facts["resumed_at"], facts["went_on_at"]) == (alone, 10, 6)
    assert facts["flops"] == pytest.approx(whole["flops"] * 10 / 16)


def test_a_trunk_that_is_damaged_is_trained_anew(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objective = make(LOWER, UPPER)
    tried(objective, 0)
    (file,) = (tmp_path / "runs" / "trunks").rglob("*.pt")
    file.write_bytes(file.read_bytes()[:100])
    assert "went_on_at" not in tried(objective, 1)[1]
    assert "starting afresh" in caplog.text


@pytest.mark.parametrize(
    ("below", "above", "repetition", "said"),
    [
        (LOWER, UPPER, "matched", "reads smaller pools.* Set repetition: whole"),
        (replace(LOWER, lr=2e-2), UPPER, "whole", "its lr is 0.01 and that one's 0.02"),
        (replace(LOWER, batch_tokens=256), UPPER, "whole", "its batch_tokens is 512"),
        (replace(LOWER, warmup=0.0), UPPER, "whole", "does for 1 and .* one warmup: 0.125"),
        (LOWER, replace(UPPER, schedule="cosine"), "whole", "needs schedule: wsd"),
        (LOWER, replace(UPPER, decay=0.9), "whole", "begins to decay after 6 steps"),
        (replace(LOWER, command="x"), UPPER, "whole", "a command keeps its own checkpoints"),
        (replace(LOWER, go_on=True), SMALL, "whole", "no rung below it"),
    ],
)
def test_what_cannot_go_on_is_refused_before_any_training(
    make: Make, below: ProxyRecipe, above: ProxyRecipe, repetition: str, said: str
) -> None:
    number = 0 if below.go_on else 1
    with pytest.raises(UserError, match=rf"study.ladder\[{number}\] .*go_on.*{said}"):
        make(below, above, repetition=repetition)


def test_a_target_that_goes_on_is_confirmed_from_the_start(tiny_corpus: Corpus) -> None:
    recipe = StudyRecipe(str(tiny_corpus.path), UPPER, (), ["a"], ladder=(LOWER, UPPER))
    assert at_target(recipe).proxy == SMALL


def test_a_budget_is_charged_what_a_trial_says_it_used() -> None:
    def trial(rung: int, flops: Any) -> Any:
        attrs = {RUNG: rung, FACTS: {} if flops is None else {"flops": flops}}
        return create_trial(state=TrialState.COMPLETE, value=1.0, user_attrs=attrs)

    ladder = Ladder.of([2, 8])
    for flops, spent in ((None, 8), (5.0, 5), (8, 8), (100.0, 8), ("many", 8)):
        assert ladder.spent([trial(1, flops)]) == spent
    assert ladder.spent([trial(0, 1.0), trial(1, None)]) == 9
