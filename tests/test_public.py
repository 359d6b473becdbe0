"""The public face: what `climb_opt` offers is there, typed for editors, and shown by an example."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

import climb_opt
from climb_opt import recipes
from climb_opt.recipes import Choice, ModelRecipe, ProxyRecipe, StudyRecipe
from conftest import write_tiny_corpus

PACKAGE = Path(climb_opt.__file__).parent
NAMES = [name for name in climb_opt.__all__ if name != "__version__"]
# Examples that are run besides those of the public names.
MODULES = ("attributes", "measures", "view", "retrain.sibling")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the examples run: a corpus in corpora/tiny and a recipe tiny.yaml for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    Path("corpora/tiny").mkdir(parents=True)
    write_tiny_corpus(Path("corpora/tiny"))
    recipe = StudyRecipe(
        corpus="corpora/tiny",
        proxy=ProxyRecipe(ModelRecipe(hidden=16, layers=1, heads=2), tokens=4_096, sequence=16),
        evaluators=(Choice("heldout", {"target": "sums", "max_tokens": 500}),),
        score=["sums/bpb"],
        rounds=(3, 2),
        sampler=Choice("climb", {"predictor": "loglinear", "pool_size": 200}),
        baselines=("prior",),
    )
    Path("tiny.yaml").write_text(yaml.safe_dump(json.loads(recipes.to_json(recipe))))


def run(thing: Any, name: str) -> doctest.TestResults:
    finder = doctest.DocTestFinder(recurse=False)
    module = sys.modules[getattr(thing, "__module__", thing.__name__)]
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL | doctest.REPORT_NDIFF
    )
    for test in finder.find(thing, name, module=module, globs=dict(vars(module))):
        runner.run(test)
    return runner.summarize(verbose=False)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_with_an_example_that_runs(name: str, elsewhere: None) -> None:
    thing = inspect.unwrap(getattr(climb_opt, name))
    result = run(thing, name)
    assert result.attempted, f"{name} has no example"
    assert not result.failed


OBVIOUS = {"study", "args", "kwargs"}
ELSEWHERE = {"Corpus", "History", "StudyRecipe"}  # built by other calls; keys: docs/reference.md


@pytest.mark.parametrize("name", sorted(set(NAMES) - ELSEWHERE))
def test_every_parameter_of_a_public_name_is_explained(name: str) -> None:
    thing = inspect.unwrap(getattr(climb_opt, name))
    if isinstance(thing, type) and issubclass(thing, Exception):
        return
    lines = (inspect.getdoc(thing) or "").splitlines()
    said = "\n".join(line for line in lines if not line.startswith((">>>", "...")))
    missing = set(inspect.signature(thing).parameters) - OBVIOUS - set(re.findall(r"\w+", said))
    assert not missing


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_modules_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"climb_opt.{name}"))
    assert result.attempted and not result.failed


def test_editors_and_type_checkers_see_every_lazy_name() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {a.asname for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert typed == set(climb_opt._LAZY)
    assert (PACKAGE / "py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sampler'"):
        climb_opt.Sampler  # noqa: B018
