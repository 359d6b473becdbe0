"""What a proxy's recipe comes to: rates, steps, parameters."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from climb_opt import recipe_files, recipes
from climb_opt.errors import UserError
from climb_opt.proxy import model
from climb_opt.proxy.cost import plan
from climb_opt.proxy.schedule import learning_rate
from climb_opt.recipes import ModelRecipe
from climb_opt.shards import Corpus
from training import SMALL


def test_the_schedules_warm_up_and_end_at_the_smallest_rate() -> None:
    recipe = replace(SMALL, lr=1.0, min_lr=0.1, warmup=0.1, decay=0.2)
    wsd = [learning_rate(recipe, step, 100) for step in range(100)]
    assert wsd[0] == pytest.approx(0.1) and wsd[9] == wsd[50] == wsd[79] == 1.0
    assert wsd[99] == pytest.approx(0.1) and all(np.diff(wsd[79:]) < 0)
    cosine = [learning_rate(replace(recipe, schedule="cosine"), step, 100) for step in range(100)]
    assert max(cosine) == pytest.approx(1.0) and cosine[99] == pytest.approx(0.1)
    assert all(np.diff(cosine[10:]) <= 0)


def test_a_batch_smaller_than_the_processes_is_refused() -> None:
    with pytest.raises(UserError, match="fewer than the 64 processes; raise it to at least 1024"):
        plan(SMALL, 64)


def test_parameters_are_counted_with_and_without_embeddings() -> None:
    corpus = Corpus(Path(), "c", (), {}, "uint16", 2000, 0)
    for tied, tables in ((True, 1), (False, 2)):
        recipe = ModelRecipe(hidden=64, layers=2, heads=4, tied=tied)
        size = model.size_of(model.configure(recipe, corpus, 128))
        inner = 2 * (4 * 64 * 64 + 3 * 64 * 176 + 2 * 64) + 64
        assert size.body == inner
        assert size.parameters == inner + tables * 2048 * 64  # rounded up to 64


@pytest.mark.parametrize("name", recipe_files.names("proxies"))
def test_every_shipped_proxy_states_its_size(name: str) -> None:
    text = recipe_files.find("proxies", name).read_text()
    comment = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    stated = re.search(
        r"vocabulary of ([\d,]+): ([\d.]+)M parameters, ([\d.]+)M without embeddings", comment
    )
    assert stated is not None
    vocabulary, total, inner = (float(x.replace(",", "")) for x in stated.groups())
    corpus = Corpus(Path(), "c", (), {}, "uint16", int(vocabulary), 0)
    recipe = recipes.read_proxy(name)
    size = model.size_of(model.configure(recipe.model, corpus, recipe.sequence))
    digits = len(stated[2].partition(".")[2])
    assert round(size.parameters / 1e6, digits) == total
    assert round(size.body / 1e6, digits) == inner
    assert recipe.tokens % recipe.batch_tokens == 0  # whole steps
    assert plan(recipe, 8)[1] >= 32
