"""A corpus as a recipe: of `corpus build`, and of a study that builds what it searches."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from climb_opt import corpus_recipe, recipe_files, recipes
from climb_opt.attributes import RECIPE
from climb_opt.cli import main, parser, process
from climb_opt.cli.corpus_build import recipe_from
from climb_opt.corpus import build as building
from climb_opt.corpus import ensure as ensuring
from climb_opt.corpus.ensure import ensure
from climb_opt.corpus.files import locked
from climb_opt.corpus.folder import WORK
from climb_opt.corpus.options import BuildOptions, options_of
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError
from climb_opt.shards import Corpus
from climb_opt.storages import open_storage
from climb_opt.study import awaits_corpus, corpus_here, load_corpus, open_study, read_recipe
from corpora import topic_documents, write_jsonl

optuna.logging.set_verbosity(optuna.logging.ERROR)

CORPUS = {
    "inputs": ["docs.jsonl"],
    "output": "out/small",
    "domains": 4,
    "clusters": 12,
    "vocab_size": 400,
    "target": ["sky=topic:stars"],
}
STUDY = {
    "corpus": CORPUS,
    "proxy": "demo",
    "evaluators": [{"name": "heldout", "target": "sky"}],
    "score": ["sky/bpb"],
    "rounds": [2],
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    write_jsonl(Path("docs.jsonl"), topic_documents(30))
    write("s.yaml", STUDY)
    return tmp_path


def write(name: str, data: Any, **more: Any) -> str:
    Path(name).write_text(yaml.safe_dump({**data, **more}), encoding="utf-8")
    return name


def flags(*words: str) -> CorpusRecipe:
    return recipe_from(parser().parse_args(["corpus", "build", *words]))


# --- keys and flags -----------------------------------------------------------------------------


def test_every_key_is_a_flag_of_the_same_name_and_the_other_way_round() -> None:
    build = argparse.ArgumentParser()
    for words, command in commands(parser()):
        if words == ("corpus", "build"):
            build = command
    names = {n.removeprefix("--").replace("-", "_") for a in build._actions
             for n in a.option_strings if n.startswith("--")}  # fmt: skip
    running = {"help", "set", "engine", "workers", "part", "overwrite", "dry_run", "no_progress"}
    assert names - running == {f.name for f in dataclasses.fields(CorpusRecipe)} - {"inputs"}


def commands(top: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Any:
    groups = [a for a in top._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        yield words, top
    for group in groups:
        for name, inner in group.choices.items():
            yield from commands(inner, (*words, name))


def test_without_flags_the_defaults_hold_and_those_of_the_stages_are_the_same() -> None:
    bare = flags("docs.jsonl", "--output", "x/corpus")
    assert bare == CorpusRecipe(("docs.jsonl",), "x/corpus")
    assert options_of(bare) == BuildOptions(("docs.jsonl",))


VALUES: dict[str, tuple[list[str], Any]] = {
    "near_duplicates": (["off"], None),
    "fields": (['kind,"a,b"'], ("kind", "a,b")),
    "devices": (["cuda:0, cuda:1"], ("cuda:0", "cuda:1")),
    "trust_remote_code": ([], True),
}


@pytest.mark.parametrize("key", [f.name for f in dataclasses.fields(CorpusRecipe) if f.metadata])
def test_a_flag_and_its_key_say_the_same(key: str) -> None:
    default = getattr(CorpusRecipe, key)
    number = {"merge_distance": 1.5, "domains": 7, "clusters": 9, "fit_points": 11, "max_tokens": 5}
    given: Any = number.get(key, "odd")
    if isinstance(default, tuple):
        given = ("odd",)
    elif isinstance(default, (int, float)):
        given = default / 2 if isinstance(default, float) else default + 1
    words, meant = VALUES.get(key, ([str(given[0] if isinstance(given, tuple) else given)], given))
    flag = f"--{key.replace('_', '-')}"
    typed = flags("docs.jsonl", "--output", "o", flag, *words)
    read = recipes.corpus_from({"inputs": "docs.jsonl", "output": "o", key: meant})
    assert typed == read and getattr(read, key) == meant != default
    wanted = options_of(dataclasses.replace(read, name=None))
    changed = options_of(CorpusRecipe(("docs.jsonl",), "o"))
    assert key == "name" or wanted != changed, "the key decides nothing"


@pytest.mark.parametrize("off", [False, "off", None])
def test_near_duplicates_off_is_off_however_yaml_reads_it(off: Any) -> None:
    recipe = recipes.corpus_from({"inputs": ["a"], "near_duplicates": off})
    assert recipe.near_duplicates is None
    assert recipes.corpus_from({"inputs": ["a"]}).near_duplicates == 0.8
    assert recipes.corpus_from({"inputs": ["a"], "near_duplicates": 1}).near_duplicates == 1


# --- corpus build -------------------------------------------------------------------------------


def test_a_recipe_its_overrides_and_flags_build_what_flags_alone_build() -> None:
    write("small.yaml", {**CORPUS, "domains": 2, "seed": 3})
    words = ["small.yaml", "--set", "domains=3", "--seed", "0", "--no-progress"]
    assert flags(*words[:-1]) == recipes.corpus_from({**CORPUS, "domains": 3, "seed": 0})
    assert main(["corpus", "build", *words]) == 0
    by_flags = ["docs.jsonl", "--output", "by/small", "--domains", "3", "--clusters", "12",
                "--vocab-size", "400", "--target", "sky=topic:stars", "--no-progress"]  # fmt: skip
    assert main(["corpus", "build", *by_flags]) == 0
    assert Corpus.load("out/small").digest == Corpus.load("by/small").digest
    stages = [{p.name for p in Path(o, WORK).glob("*-*")} for o in ("out/small", "by/small")]
    assert stages[0] == stages[1]


def test_the_corpus_of_a_study_is_built_alone_by_the_studys_recipe() -> None:
    assert flags("s.yaml", "--set", "domains=3").domains == 3
    write("include.yaml", {"include": "s", "rounds": [4]})
    assert flags("include.yaml") == recipes.corpus_from(CORPUS)
    write("folder.yaml", {**STUDY, "corpus": "somewhere"})
    with pytest.raises(UserError, match="its corpus is a folder, 'somewhere', and not how"):
        flags("folder.yaml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo", "docs.jsonl"], "'demo' is a recipe, which names its own inputs"),
        (["docs.jsonl", "--output", "o", "--set", "domains=3"], "--set 'domains=3' changes a rec"),
        (["demoo"], "--output FOLDER is missing.* Did you mean 'demo'?"),
        (["nowhere.yaml"], "No recipe file 'nowhere.yaml'"),
        (["demo", "--set", "domain=3"], "unknown key 'domain'. Did you mean 'domains'?"),
        (["demo", "--set", "domains=many"], "corpus.domains: expected a number, but got 'many'"),
        (["demo", "--set", "inputs=[]"], "corpus.inputs: name at least one"),
        (["demo", "--set", "output=docs.jsonl/x"], "is a file, no folder. Give another path"),
        (["demo", "--output", "docs.jsonl"], "'docs.jsonl' is a file, no folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["corpus", "build", *words, "--no-progress"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(UserError, match=message):
        raise UserError(error)


def test_a_file_of_a_recipes_name_is_an_input_still() -> None:
    Path("demo").mkdir()
    assert flags("demo", "--output", "o").inputs == ("demo",)


# --- a study ------------------------------------------------------------------------------------


def test_opening_a_study_builds_its_corpus_and_stores_how() -> None:
    study = open_study("s.yaml")
    corpus = Corpus.load("out/small")
    assert set(corpus.targets) == {"sky"} and len(corpus.domains) == 4
    stored = json.loads(study.user_attrs[RECIPE])["corpus"]
    assert stored["domains"] == 4 and stored["inputs"] == ["docs.jsonl"]
    assert read_recipe(study).corpus == recipes.corpus_from(CORPUS)
    assert open_study("s.yaml").user_attrs == study.user_attrs
    assert load_corpus(study).digest == corpus.digest


def test_a_study_that_is_there_finds_its_corpus_without_the_documents() -> None:
    study = open_study("s.yaml")
    Path("docs.jsonl").unlink()
    assert load_corpus(study) == Corpus.load("out/small")
    again = open_study("s.yaml", study_name="other")  # built with these options, so it is taken
    assert again.study_name == "other"
    with pytest.raises(UserError, match=r"corpus: No input 'docs.jsonl'"):
        open_study("s.yaml", study_name="third", overrides=["corpus.domains=3"])


def test_a_machine_that_joins_builds_its_own_copy() -> None:
    study = open_study("s.yaml")
    made = Corpus.load("out/small").digest
    shutil.rmtree("out")
    assert load_corpus(study).digest == made
    shutil.rmtree("out")
    write_jsonl(Path("docs.jsonl"), topic_documents(30, seed=9))
    with pytest.raises(UserError, match=f"was made with corpus 'small', digest {made}"):
        load_corpus(study)


def test_a_machine_may_have_the_corpus_elsewhere() -> None:
    study = open_study("s.yaml")
    shutil.move("out/small", "elsewhere")
    overrides = ["corpus=elsewhere"]
    assert corpus_here(study, overrides) == "elsewhere" and corpus_here(study, []) is None
    assert open_study("s.yaml", overrides=overrides).study_name == "s"
    assert load_corpus(study, corpus_here(study, overrides)).path == Path("elsewhere")
    built = corpus_here(study, ["corpus.output=third/small"])
    assert load_corpus(study, built).path == Path("third/small")


def test_another_corpus_in_the_folder_is_refused_and_left_alone() -> None:
    open_study("s.yaml")
    made = Corpus.load("out/small").digest
    with pytest.raises(UserError, match=r"holds another corpus \(options.merge.domains: 4 -> 3\)"):
        open_study("s.yaml", study_name="other", overrides=["corpus.domains=3"])
    with pytest.raises(UserError, match=r"with `climb-opt corpus build \.\.\. --overwrite`"):
        open_study("s.yaml", study_name="other", overrides=["corpus.domains=3"])
    assert Corpus.load("out/small").digest == made
    Path("notes").mkdir()
    Path("notes/a.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files and no corpus"):
        open_study("s.yaml", study_name="other", overrides=["corpus.output=notes"])


def test_a_half_built_corpus_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(building, "write_corpus", killed)
        open_study("s.yaml")
    before = {p: p.stat().st_mtime_ns for p in Path("out/small").rglob("*.npy")}
    assert before and not Path("out/small/manifest.json").exists()
    open_study("s.yaml")
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_one_of_several_builds_and_the_others_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "climb_opt")
    built: list[float] = []
    write_corpus = building.write_corpus

    def slowly(*args: Any) -> Corpus:
        time.sleep(0.3)
        built.append(time.monotonic())
        return write_corpus(*args)

    monkeypatch.setattr(building, "write_corpus", slowly)
    found: list[Corpus] = []
    recipe = recipes.corpus_from(CORPUS)
    workers = [threading.Thread(target=lambda: found.append(ensure(recipe))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(built) == 1 and len({c.digest for c in found}) == 1 and len(found) == 3
    assert caplog.text.count("Another process is building out/small; waiting for it.") == 2


def test_the_other_processes_of_a_launch_wait_for_a_study_whose_corpus_is_being_built() -> None:
    assert awaits_corpus("s.yaml", []) and not awaits_corpus("s.yaml", ["corpus=elsewhere"])
    assert not awaits_corpus("a-study", []) and not awaits_corpus(None, [])
    answers = iter([True, True, False])
    tries: list[int] = []

    def look() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise UserError("No study 's'.")
        return "study"

    assert process.wait_for(look, not_yet=lambda: next(answers)) == "study"
    open_study("s.yaml")
    assert not awaits_corpus("s.yaml", [])


def test_corpus_build_still_refuses_a_second_process() -> None:
    Path("out/small", WORK).mkdir(parents=True)
    write("small.yaml", CORPUS)
    with locked(Path("out/small", WORK), (1, 1)):
        assert main(["corpus", "build", "small.yaml", "--no-progress"]) == 2
    assert ensuring.ensure(recipes.corpus_from(CORPUS)).digest


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("corpus.domain=5", "study.corpus: unknown key 'domain'. Did you mean 'domains'?"),
        ("corpus.output=null", "study.corpus: missing key 'output'"),
        ("corpus.inputs=[]", "study.corpus.inputs: name at least one"),
        ("corpus.inputs=[nowhere]", "corpus: No input 'nowhere'"),
        ("corpus.heldout=0.9", r"study.corpus.heldout must be in \[0, 0.5\]"),
        ("corpus=3", "study.corpus: expected a folder, or a mapping of keys"),
        ("corpus.include=nothing", "No recipe 'nothing' in corpora. Shipped: demo"),
        ("corpus.output=docs.jsonl/x", "is a file, no folder. Give another path"),
    ],
)
def test_a_corpus_that_cannot_be_is_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        open_study("s.yaml", overrides=[override])
    assert "\n" not in str(raised.value)
    assert not optuna.get_all_study_names(open_storage(None))


def test_a_corpus_may_include_a_shipped_one_and_a_study_change_its_name() -> None:
    demo = recipes.read_study("demo")
    assert demo.corpus == recipes.read_corpus("demo") and demo.corpus_folder == "corpora/demo"
    write("mine.yaml", {"include": "demo", "corpus": {"name": "mine", "domains": 21}})
    mine = recipes.read_study("mine.yaml").corpus
    assert isinstance(mine, CorpusRecipe)
    assert (mine.name, mine.domains, mine.vocab_size) == ("mine", 21, 2048)


@pytest.mark.parametrize("name", recipe_files.names("corpora"))
def test_every_shipped_corpus_is_complete_and_says_what_it_is(name: str) -> None:
    recipe = recipes.read_corpus(name)
    assert recipe.output == f"corpora/{name}"
    assert options_of(recipe).name == name
    assert recipe_files.summary("corpora", name).endswith(".")


def test_groups_of_flags_begin_with_keys() -> None:
    assert set(corpus_recipe.GROUPS) <= {f.name for f in dataclasses.fields(CorpusRecipe)}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("sampler", "clim", "Unknown sampler 'clim'. Did you mean 'climb'?"),
        ("sampler", {"name": "climb", "predictor": "lightgmb"}, "Unknown predictor 'lightgmb'."),
        ("sampler", {"name": "climb", "n_tp": 3}, "unknown key 'n_tp'."),
        ("sampler", {"name": "tpe", "seed": 3}, "'seed' is a key of the study"),
        ("pruner", "medium", "Unknown pruner 'medium'. Did you mean 'median'?"),
        ("evaluators", ["heldot"], "Unknown evaluator 'heldot'. Did you mean 'heldout'?"),
        ("evaluators", [{"name": "heldout", "targt": "sky"}], "unknown key 'targt'."),
        ("baselines", ["unimx"], "Unknown baseline 'unimx'. Did you mean 'unimax'?"),
        (
            "evaluators",
            [{"name": "heldout", "target": ["sky", "skyy"]}],
            "The corpus that is to be built, 'out/small', has no target 'skyy'. Did you mean "
            "'sky'? Targets: sky.",
        ),
        (
            "corpus",
            {**CORPUS, "target": [], "heldout": 0},
            "The corpus that is to be built, 'out/small', has no target 'sky'. Targets: none.",
        ),
        ("score", ["skies/bpb"], "study.score: no evaluator gives 'skies/bpb'. Did you mean"),
    ],
)
def test_a_name_nobody_knows_is_refused_before_a_corpus_is_built(
    key: str, value: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("s.yaml", {**STUDY, key: value})
    assert main(["search", "s.yaml", "--storage", "s.journal"]) == 2
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told
    assert not Path("out").exists()
    assert optuna.get_all_study_names(open_storage("s.journal")) == []


def test_what_cannot_be_imported_here_may_be_elsewhere() -> None:
    write("s.yaml", {**STUDY, "evaluators": ["only_on_the_cluster:Score"]})
    assert open_study("s.yaml", storage="s.journal").study_name == "s"
