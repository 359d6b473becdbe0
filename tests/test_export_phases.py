"""Schedules handed over: every trainer is told the phases in order, or gets a file for each."""

from __future__ import annotations

import json
import math
import runpy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import climb_opt
from climb_opt import cli
from climb_opt.corpus.after.megatron import read_pair
from climb_opt.errors import UserError
from climb_opt.exports import Handover, prepare, render, texts
from climb_opt.exports.formats import format_of, render_phases
from climb_opt.exports.materialise import materialise
from climb_opt.mixtures import schedule_from
from climb_opt.recipes import study_from
from climb_opt.schedules import Phase, Schedule, schedule_data, step_borders
from climb_opt.shards import Corpus
from climb_opt.study import open_study
from test_export import Nanoset, read_back, weights_of_loader

TWO = (
    Phase(0.75, {"web": 0.6, "code": 0.3, "math": 0.1}),
    Phase(0.25, {"code": 0.2, "math": 0.8, "web": 0.0}),
)
SAYS_PHASES = [name for name in texts() if format_of(name).phases]
# 100 sequences of 64 tokens in steps of 8: 12 whole ones, of which 9 are the first phase.
RUN: dict[str, Any] = {"tokens": 6400, "sequence": 64, "batch": 8}


def handover(schedule: Schedule = TWO, **settings: Any) -> Handover:
    return prepare(schedule, study="demo", rule="posterior-mean", **settings)


def weights_by_phase(name: str, text: str) -> list[list[float]]:
    """The weights of each phase that a reader finds in an export that says phases."""
    if name in ("json", "yaml"):
        data = json.loads(text) if name == "json" else yaml.safe_load(text)
        return [list(phase["mixture"].values()) for phase in data["phases"]]
    if name in ("huggingface", "torchtitan"):
        found: dict[str, Any] = {}
        exec(text[text.index("PHASES = [") : text.index("\n]\n") + 2], found)
        return [list(mixture.values()) for _, mixture in found["PHASES"]]
    data = yaml.safe_load(text)
    if name == "nanotron":
        stages = [Nanoset(**stage["data"]["dataset"]) for stage in data["data_stages"]]
        return [stage.dataset_weights for stage in stages]
    assert name == "mosaicml"
    first = data["train_loader"]["dataset"]
    later = [change["dataset"] for change in data["callbacks"]["curriculum_learning"]["schedule"]]
    every = [list(dataset["streams"].values()) for dataset in (first, *later)]
    return [[stream["proportion"] for stream in streams] for streams in every]


@pytest.mark.parametrize("name", texts())
def test_every_format_hands_over_each_phase_in_order(name: str) -> None:
    found = render_phases(name, handover(**RUN))
    if name in SAYS_PHASES:
        assert weights_by_phase(name, found[0]) == [[0.6, 0.3, 0.1], [0.8, 0.2]]
    else:
        assert [read_back(name, text) for text in found] == [[0.6, 0.3, 0.1], [0.8, 0.2]]
        if name != "megatron":  # has no comments
            assert "# Mixture of study demo" in found[1] and "phase 2 of 2, steps 10 to" in found[1]


def test_most_formats_say_phases_and_the_others_say_which_do() -> None:
    assert set(texts()) - set(SAYS_PHASES) == {"megatron", "nemo", "olmo-core"}
    with pytest.raises(
        UserError, match=r"megatron says one mixture.*--output FILE.*nanotron"
    ) as said:
        render("megatron", handover(**RUN))
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("name", ["json", "yaml"])
def test_what_is_written_for_programs_is_read_as_the_schedule(name: str) -> None:
    text = render(name, handover(**RUN))
    data = json.loads(text) if name == "json" else yaml.safe_load(text)
    assert ("mixture" in data) is False  # a reader of mixtures must not take the mean for one
    found = [{key: phase[key] for key in ("share", "mixture")} for phase in data["phases"]]
    assert schedule_from(found, name) == (TWO[0], Phase(0.25, {"math": 0.8, "code": 0.2}))


def test_one_phase_is_handed_over_as_a_mixture_is() -> None:
    one = handover((Phase(1.0, TWO[0].mixture),), **RUN)
    assert one == prepare(TWO[0].mixture, study="demo", rule="posterior-mean", **RUN)


@given(
    st.lists(st.integers(1, 20), min_size=2, max_size=4),
    st.integers(1, 60_000),
    st.integers(1, 64),
    st.sampled_from([None, 1, 7]),
)
def test_phases_end_where_training_ends_them_and_fill_the_run(
    parts: list[int], tokens: int, sequence: int, batch: int | None
) -> None:
    shares = [part / sum(parts) for part in parts]
    schedule = tuple(Phase(share, TWO[p % 2].mixture) for p, share in enumerate(shares))
    unit = sequence * (batch or 1)
    if min(shares) * (tokens // unit) < 1 - 1e-9:
        with pytest.raises(UserError, match="less than one"):
            handover(schedule, tokens=tokens, sequence=sequence, batch=batch)
        return
    order = handover(schedule, tokens=tokens, sequence=sequence, batch=batch)
    borders = step_borders(shares, tokens // unit)
    begins = [phase.span.begin for phase in order.phases if phase.span]
    assert begins == [border * unit for border in borders[:-1]]
    assert sum(phase.tokens or 0 for phase in order.phases) == tokens
    # The Python exports count their steps by themselves, for a batch that they are told.
    module: dict[str, Any] = {"math": math}
    text = render("torchtitan", order)
    exec(text[text.index("# of each phase") : text.index("if find_spec(")], module)
    steps = module["steps"](batch or 1)
    assert [first for first, _ in steps] == borders[:-1]
    assert steps[-1][1] == -(-tokens // unit)


def test_nanotron_is_told_the_first_step_of_each_stage() -> None:
    data = yaml.safe_load(render("nanotron", handover(**RUN)))
    assert [stage["start_training_step"] for stage in data["data_stages"]] == [1, 10]
    assert len({stage["name"] for stage in data["data_stages"]}) == 2
    assert data["tokens"] == {"sequence_length": 64, "train_steps": 13}
    for missing in ("tokens", "batch"):
        with pytest.raises(UserError, match="give --tokens and --batch"):
            render("nanotron", handover(**{k: v for k, v in RUN.items() if k != missing}))


def test_what_cannot_be_written_says_its_reason_alone(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match="give --tokens and --batch"):
        render("nanotron", handover(**{k: v for k, v in RUN.items() if k != "batch"}))
    assert not caplog.messages


def test_megatron_is_told_where_it_stops_for_the_next_blend(
    caplog: pytest.LogCaptureFixture,
) -> None:
    render_phases("megatron", handover(**RUN))
    told = "--train-samples 100 --seq-length 64 --phase-transition-iterations 9"
    assert f"For 4608 tokens: {told}." in caplog.text
    assert "Every phase begins code, math anew" in caplog.text
    caplog.clear()
    render_phases("nanotron", handover(**RUN))
    assert "anew" not in caplog.text  # it reads on by itself


def test_nemo_counts_samples_from_the_beginning_of_the_run() -> None:
    found = [yaml.safe_load(text)["data"] for text in render_phases("nemo", handover(**RUN))]
    assert [data["num_train_samples"] for data in found] == [72, 100]
    first, second = render_phases("nemo", handover(**RUN))
    assert "begins the blend of phase 2 of 2 at sample 72" in second and "begins" not in first


def test_llm_foundry_is_given_a_schedule_that_fills_its_duration() -> None:
    data = yaml.safe_load(render("mosaicml", handover(**RUN)))
    first = data["callbacks"]["curriculum_learning"]
    (second,) = first["schedule"]
    durations = [first["duration"], second["duration"], data["max_duration"]]
    assert durations == ["4608tok", "1792tok", "6400tok"]
    drawn = [part["dataset"] for part in (data["train_loader"], second)]
    assert [(d["shuffle"], d["shuffle_seed"]) for d in drawn] == [(True, 42), (True, 43)]
    with pytest.raises(UserError, match="how long a phase is: give --tokens"):
        render("mosaicml", handover())


def test_what_is_too_small_in_a_phase_is_said_of_that_phase(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tiny = (
        Phase(0.75, {"web": 1.0}),
        Phase(0.25, {"web": 0.98, "code": 0.02 - 2e-7, "math": 2e-7}),
    )
    render("nanotron", handover(tiny, **RUN))
    assert "together 2e-07 of phase 2 of 2, for" in caplog.text
    assert "code (35.84 tokens in phase 2)" in caplog.text


def test_hugging_face_draws_each_phase_and_reads_domains_on(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    for name in ("web", "code", "math"):
        lines = [json.dumps({"text": f"{name} {i}"}) for i in range(400)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    place = str(tmp_path / "{domain}.jsonl")
    text = render("huggingface", handover(corpus=tiny_corpus, template=place, **RUN))
    module = tmp_path / "schedule_of_demo.py"
    module.write_text(text, encoding="utf-8")
    made = runpy.run_path(str(module))
    assert made["steps"](8) == [(0, 9), (9, 13)]
    drawn = [
        [row["text"].split() for row, _ in zip(made["mixture"](phase), range(50), strict=False)]
        for phase in (0, 1)
    ]
    assert {name for name, _ in drawn[0]} == {"web", "code", "math"}
    assert {name for name, _ in drawn[1]} == {"code", "math"}
    begins = {name: int(i) for name, i in reversed(drawn[1])}
    documents = {d.name: d.tokens / sum(s.documents for s in d.shards) for d in tiny_corpus.domains}
    for name, weight in (("code", 0.3), ("math", 0.1)):
        assert begins[name] == pytest.approx(0.75 * 6400 * weight / documents[name], abs=1)


# --- data ----------------------------------------------------------------------------------------


def test_materialised_phases_are_exact_in_order_and_read_domains_on(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    order = handover(corpus=tiny_corpus, tokens=6400, sequence=64)
    written = materialise(order, tiny_corpus, tmp_path)
    facts = json.loads((tmp_path / "mixture.json").read_text(encoding="utf-8"))
    assert [phase["file"] for phase in facts["phases"]] == ["mixture-1.bin", "mixture-2.bin"]
    assert [part.total for part in written.phases] == [4800, 1600]
    assert written.total == facts["tokens"] == 6400
    assert written.phases[0].tokens == {"web": 2880, "code": 1440, "math": 480}
    assert written.phases[1].tokens == {"math": 1280, "code": 320}
    pairs = [read_pair(tmp_path / f"mixture-{n}") for n in (1, 2)]
    assert [len(pair.tokens) for pair in pairs] == [4800, 1600]
    assert written.epochs["math"] == pytest.approx(1760 / tiny_corpus.domain("math").tokens)
    assert not (tmp_path / "mixture.bin").exists()
    with pytest.raises(UserError, match=r"mixture-1\.bin' exists already"):
        materialise(order, tiny_corpus, tmp_path)


def test_no_document_is_repeated_before_its_domain_is_read_through(tmp_path: Path) -> None:
    from test_export_exact import corpus_of

    rng = np.random.default_rng(0)
    corpus = corpus_of(tmp_path, {"a": rng.integers(2, 40, 60).tolist(), "b": [25] * 80})
    total = corpus.domain("a").tokens
    # Three phases, 20 %, 40 % and 40 % of one domain: all of it, once.
    shares, weight = (0.2, 0.4, 0.4), total / (total + 1000)
    schedule = tuple(Phase(share, {"a": weight, "b": 1 - weight}) for share in shares)
    order = prepare(schedule, study="s", corpus=corpus, tokens=total + 1000, sequence=1)
    written = materialise(order, corpus, tmp_path / "out")
    whole = corpus.read(corpus.domain("a").shards[0])
    ends = np.flatnonzero(whole == corpus.eos) + 1
    lengths = sorted(np.diff([0, *ends]).tolist())
    found: list[int] = []
    for n in (1, 2, 3):
        pair = read_pair(tmp_path / "out" / f"mixture-{n}")
        for begin, end in pairwise([0, *pair.ends.tolist()]):
            if pair.tokens[begin] in whole:
                found.append(end - begin)
    assert sum(written.cut.values()) <= 3
    assert abs(sum(found) - total) <= 1
    assert len(set(map(str, found)) - set(map(str, lengths))) <= sum(written.cut.values())


def test_a_disk_that_fills_in_the_second_phase_leaves_no_first(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    left = [5000]

    def full(tokens: int) -> None:
        left[0] -= tokens
        if left[0] < 0:
            raise OSError(28, "No space left on device")

    order = handover(corpus=tiny_corpus, tokens=6400, sequence=64)
    with pytest.raises(UserError, match="no space left on the disk"):
        materialise(order, tiny_corpus, tmp_path, progress=full)
    assert not list(tmp_path.glob("*.bin")) and not (tmp_path / "mixture.json").exists()


def test_texts_of_phases_name_their_domains(tiny_corpus: Corpus, tmp_path: Path) -> None:
    order = handover(corpus=tiny_corpus, tokens=6400, sequence=64)
    materialise(order, tiny_corpus, tmp_path, kind="documents")
    rows = [
        {json.loads(line)["domain"] for line in file.read_text(encoding="utf-8").splitlines()}
        for file in sorted(tmp_path.glob("mixture-*.jsonl"))
    ]
    assert rows == [{"web", "code", "math"}, {"code", "math"}]


# --- the trainers' own readers -------------------------------------------------------------------


def test_megatron_core_reads_every_phases_blend_and_tokens(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")  # which megatron-core warns that it lacks
    utils = pytest.importorskip("megatron.core.datasets.utils")
    indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    found = [
        utils.get_blend_from_list(text.split())
        for text in render_phases("megatron", handover(template="data/{domain}", **RUN))
    ]
    assert [weights for _, weights in found] == [[0.6, 0.3, 0.1], [0.8, 0.2]]
    assert found[1][0] == ["data/math", "data/code"]
    materialise(handover(corpus=tiny_corpus, tokens=6400, sequence=64), tiny_corpus, tmp_path)
    for n, tokens in ((1, 4800), (2, 1600)):
        data = indexed.IndexedDataset(str(tmp_path / f"mixture-{n}"))
        assert sum(len(data[i]) for i in range(len(data))) == tokens


def test_olmo_core_builds_every_phase(tiny_corpus: Corpus) -> None:
    mixing = pytest.importorskip("olmo_core.data.source_mixture")
    order = handover(corpus=tiny_corpus, tokens=12_800, sequence=64)
    texts = render_phases("olmo-core", order)
    for text, phase, of in zip(texts, TWO, order.phases, strict=True):
        listed = mixing.SourceMixtureList.from_dict(yaml.safe_load(text))
        listed.validate()
        config = mixing.SourceMixtureDatasetConfig(
            source_list=listed,
            requested_tokens=of.tokens,
            global_batch_size=640,
            render_tables=False,
        )
        built = config.build(npdtype=np.uint16, sequence_length=64)
        taken = {s.name: sum(p.tokens for p in s.path_tokens) for s in built.sources}
        for name, tokens in taken.items():
            assert tokens / sum(taken.values()) == pytest.approx(phase.mixture[name], abs=0.03)


def test_torchtitan_builds_a_loaders_config_for_each_phase(tmp_path: Path) -> None:
    pytest.importorskip("torchtitan")
    module = tmp_path / "schedule_of_demo.py"
    module.write_text(render("torchtitan", handover(**RUN)), encoding="utf-8")
    made = runpy.run_path(str(module))
    found = [weights_of_loader(made["dataloader"](phase)) for phase in (0, 1)]
    assert found == [[0.6, 0.3, 0.1], [0.8, 0.2]]


# --- from a study --------------------------------------------------------------------------------


@pytest.fixture
def study(tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    monkeypatch.chdir(tmp_path)
    recipe = study_from(
        {
            "corpus": str(tiny_corpus.path),
            "proxy": {"tokens": 20_480, "batch_tokens": 1024, "model": {"hidden": 16}},
            "evaluators": [{"name": "heldout", "target": "sums"}],
            "score": ["sums/bpb"],
            "rounds": [4],
            "phases": [0.75, 0.25],
        }
    )
    made = open_study(recipe, storage="s.journal", study_name="phased")
    space = climb_opt.PhasedSpace(tiny_corpus.tokens(), (0.75, 0.25))
    made.enqueue_trial(space.params(space.weights(TWO)))
    trial = made.ask()
    space.suggest(trial)
    made.tell(trial, 1.0)
    return made


def test_a_trials_schedule_is_exported(study: optuna.Study) -> None:
    found = json.loads(climb_opt.export(study, "json", trial=0))["phases"]
    plain = [{key: phase[key] for key in ("share", "mixture")} for phase in found]
    assert schedule_from(plain, "x") == (TWO[0], Phase(0.25, {"math": 0.8, "code": 0.2}))


def test_a_schedule_of_a_file_is_written_to_a_file_a_phase(
    study: optuna.Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "two.yaml").write_text(yaml.safe_dump({"phases": schedule_data(TWO)}))
    argv = ["export", "phased", "--storage", "s.journal", "--mixture", "two.yaml"]
    olmo = [*argv, "--format", "olmo-core"]
    assert cli.main([*olmo, "--tokens", "4e4", "--output", "d/mix.yaml"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == ["olmo-core: d/mix-1.yaml", "olmo-core: d/mix-2.yaml"]
    text = (tmp_path / "d" / "mix-2.yaml").read_text()
    assert "of study phased, from two.yaml, phase 2 of 2" in text
    assert cli.main(olmo) == 2
    assert "olmo-core says one mixture" in capsys.readouterr().err
    assert cli.main([*argv, "--format", "json", "--trial", "0"]) == 2
    assert "--trial and --mixture exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mixture": {"web": 0.5, "cod": 0.5}}, r"unknown domain 'cod'\. Did you mean 'code'"),
        ({"mixture": {"web": 0.5}}, "the given mixture: the weights sum to 0.5"),
        ({"mixture": "none.yaml"}, r"none\.yaml"),
        ({"mixture": TWO, "batch": 0}, "--batch must be a whole number, at least 1"),
        ({"mixture": TWO, "tokens": 3000, "batch": 1}, "Phase 1 of 2 is 0.75 of 1 steps"),
    ],
)
def test_what_cannot_be_handed_over_is_refused_in_one_line(
    study: optuna.Study, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        climb_opt.export(study, "json", **settings)
    assert "\n" not in str(caught.value)
