"""A trunk, a branch, or branches merged by a mixture, as a folder that `transformers` opens."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import optuna

from climb_opt.errors import UserError, listed
from climb_opt.exports.from_study import handover_of
from climb_opt.exports.handover import Handover
from climb_opt.files import writing
from climb_opt.study import read_recipe
from climb_opt.study.working import loaded_objective

# What such a folder holds, by any version of transformers.
CONFIG, WEIGHTS = "config.json", ".safetensors"
FILES = {
    *(CONFIG, "generation_config.json", f"model{WEIGHTS}.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
}


def export_model(
    study: optuna.Study,
    output: str | Path,
    *,
    branch: str | Handover | None = None,
    corpus: str | Path | None = None,
    directory: str | Path = "runs",
) -> Path:
    """Write a model of the study's branches with its tokenizer; returns the folder.

    Args:
        output: the folder; it must be new, empty, or hold such a model and nothing else, which is
            replaced.
        branch: "trunk" or a branch's name, or a mixture to merge all branches by, as `handover_of`
            gives it; None: the mixture that the study recommends.
        corpus: where it lies here, if not where the recipe says.
        directory: where the runs lie.

    Raises:
        UserError: a study without branches, a part that is not in `directory`, no such branch, a
            schedule, or a folder that cannot be written.

    >>> import climb_opt
    >>> study = climb_opt.open_study("tiny.yaml", storage="runs/export-model.journal")
    >>> climb_opt.export_model(study, "runs/trunk", branch="trunk")
    Traceback (most recent call last):
    climb_opt.errors.UserError: --format model writes a trunk or branches, of which this study ...
    """
    recipe = read_recipe(study)
    if recipe.branches is None:
        raise UserError(
            "--format model writes a trunk or branches, of which this study has none (branches: "
            "in its recipe). Models of trials are kept by proxy.keep."
        )
    with closing(loaded_objective(study, recipe, corpus, directory)) as objective:
        tree = objective.rungs.tree
        if not isinstance(branch, str):
            for name in tree.names:
                tree.folder(name, study.study_name)  # raises where it is missing
            if not tree.names:
                raise UserError("This study has a trunk alone: nothing to merge; --branch trunk.")
            chosen = branch or handover_of(study)
            if chosen.phases:
                raise UserError("A schedule cannot be merged: branches are averaged by a mixture.")
            network = tree.merged({source.name: source.weight for source in chosen.sources})
        else:
            tree.folder(branch, study.study_name)
            network = tree.load(branch)
        from climb_opt.proxy import model

        folder = Path(output)
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            _check_replaced(folder, network)
            model.save(network, objective.corpus, folder)
    return folder


def _check_replaced(folder: Path, network: Any) -> None:
    """A model replaces a model of this kind, and nothing else."""
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    other = [name for name in there if name not in FILES and not name.endswith(WEIGHTS)]
    whole = CONFIG in there and any(name.endswith(WEIGHTS) for name in there)
    if there and not other and whole:
        config = (folder / CONFIG).read_text(encoding="utf-8", errors="replace")
        whole = f'"{type(network).__name__}"' in config
    if there and (other or not whole):
        raise UserError(
            f"{str(folder)!r} holds other things than such a model ({listed(other or there)}); "
            "give an empty folder."
        )
