"""`--help` says what may be chosen, out of the tables that are looked up."""

from __future__ import annotations

import pytest

from climb_opt import lookup, recipe_files
from climb_opt.ablation import foresight
from climb_opt.ablation.recipe import reading
from climb_opt.cli import main, parser
from climb_opt.corpus.run.local import ENGINES
from climb_opt.corpus.stages.cluster import BACKENDS
from climb_opt.corpus.stages.pruning import PRESETS

KINDS = {kind: [*lookup.KINDS[kind]] for kind in ("sampler", "predictor", "evaluator", "pruner")}
RULES = [*lookup.KINDS["rule"]]
OFFERED = [
    (("search",), recipe_files.names("studies") + recipe_files.names("proxies")),
    (("search",), [name for names in KINDS.values() for name in names]),
    (("best",), [*RULES]),
    (("report",), [*RULES, *KINDS["predictor"]]),
    (("confirm",), [*RULES, *recipe_files.names("proxies")]),
    (("transfer",), recipe_files.names("proxies")),
    (("ablate",), [*reading.shipped(), *KINDS["sampler"], *KINDS["predictor"], *RULES]),
    (("predictors",), [*recipe_files.names(foresight.SHIPPED), *KINDS["predictor"]]),
    (("corpus", "build"), [*ENGINES, *BACKENDS, *PRESETS, "tfidf", "bf16"]),
]


@pytest.mark.parametrize(("command", "names"), OFFERED, ids=lambda value: str(value)[:30])
def test_help_names_what_may_be_chosen(
    command: tuple[str, ...],
    names: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([*command, "--help"])
    out = capsys.readouterr().out
    words = set(out.replace(",", " ").split())
    assert ended.value.code == 0 and not set(names) - words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("noise demo --repeats nan", "--repeats: expected a whole number such as 4, but got 'nan'"),
        ("plan demo --flops many", "--flops: expected a number such as 0.5, but got 'many'"),
        ("plan demo --correlation a", "'a' is no number, nor several such as 0.7,0.9"),
        ("plan demo --format xml", "choose from 'text', 'json', 'yaml'"),
        ("plan --quick", "the following arguments are required: recipe"),
        ("corpus import a.bin", "required: --tokenizer, --output"),
        ("plan demo --brief", "unrecognized arguments: --brief"),
        ("", "the following arguments are required: COMMAND"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_says_where_to_look(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    line = capsys.readouterr().err
    unquoted = line.replace("'", "")  # as Python 3.13 lists choices
    assert line.startswith("climb-opt: ") and line.count("\n") == 1
    assert said.replace("'", "") in unquoted
    assert "--help` says what it takes" in line


def test_a_new_name_in_a_table_is_in_the_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lookup.KINDS["sampler"], "brand-new", "nowhere:Nothing")
    with pytest.raises(SystemExit):
        parser().parse_args(["search", "--help"])
    assert "brand-new" in capsys.readouterr().out


@pytest.mark.parametrize("name", reading.shipped())
def test_every_scale_that_help_names_can_be_read(name: str) -> None:
    assert [reading.read_ablation(name, scale=scale).arms for scale in reading.scales(name)]
