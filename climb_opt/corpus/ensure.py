"""The corpus of a recipe, built where it is not there."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from climb_opt.corpus.build import build
from climb_opt.corpus.files import load_json
from climb_opt.corpus.folder import build_facts
from climb_opt.corpus.options import Plan, make_plan, options_of, plan_from
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import Interrupted, UserError, within
from climb_opt.shards import MANIFEST, Corpus
from climb_opt.signals import handling
from climb_opt.text import storable

logger = logging.getLogger(__name__)


def ensure(recipe: CorpusRecipe, known: Callable[[Corpus], bool] | None = None) -> Corpus:
    """The corpus in the recipe's folder; built, or its build gone on with, if it is not there.

    Several processes may call it at once: one builds, the others wait for it.

    Args:
        known: whether a corpus that is there is the one that is wanted, whatever it was built
            from; by default it must be what the recipe gives.

    Raises:
        UserError: another corpus is there; anything wrong with the recipe or its inputs.
    """
    options = options_of(recipe)
    output = Path(str(recipe.output))
    there = output / MANIFEST
    if there.is_file() and known is not None:
        return Corpus.load(output)  # whoever knows which one it must be says if it is another
    # SIGTERM stops it as Ctrl-C does, at once, whatever the process does with them else: what is
    # finished is on the disk, partial files are removed.
    signals: dict[int, Any] = {signal.SIGTERM: _stop, signal.SIGINT: signal.default_int_handler}
    with within("corpus"), handling(signals):
        try:
            plan = make_plan(options)
        except UserError as error:
            if not there.is_file() or not _made_with(plan_from(options, []), there):
                raise
            logger.warning("%s is taken as it was built: %s", storable(str(output)), error)
            return Corpus.load(output)
        found = build(plan, output, workers=None, wait=True)
    assert found is not None  # this is part 1
    return found


def _stop(signum: int, frame: Any) -> None:
    raise Interrupted(f"signal {signum}")


def _made_with(plan: Plan, manifest: Path) -> bool:
    """Whether a corpus was built with these options, whatever became of its inputs."""
    stored = load_json(manifest).get("provenance", {}).get("build") or {}
    return bool(stored.get("options") == build_facts(plan)["options"])
