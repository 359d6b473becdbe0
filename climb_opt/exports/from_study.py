"""`climb_opt.export` and `climb_opt.materialise`: a study's mixture, handed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypedDict, Unpack

import optuna

from climb_opt.attributes import PATH
from climb_opt.errors import UserError, misnamed
from climb_opt.exports.formats import format_of, render, render_phases
from climb_opt.exports.handover import Handover
from climb_opt.exports.materialise import Kind, Written
from climb_opt.exports.materialise import materialise as write_data
from climb_opt.exports.prepared import prepare
from climb_opt.files import check_replaced, write_text
from climb_opt.mixtures import read_schedule, schedule_from
from climb_opt.paths import path_schedule
from climb_opt.phases import one_phase, to_train
from climb_opt.retrain.confirm import confirmation_beside
from climb_opt.retrain.paired import no_claim
from climb_opt.schedules import Schedule, mean_mixture, schedule_data
from climb_opt.selection import advised
from climb_opt.selection.rules import best_path
from climb_opt.study import corpus_of
from climb_opt.view import StudyView
from climb_opt.written import whole_number


class Settings(TypedDict, total=False):
    """Which mixture is handed over, and how.

    mixture: a mixture or a schedule of one's own instead, or the file of one.
    rule: the rule whose mixture it is (default: the one that loses least); see
        `climb-opt ls rules`.
    trial: the number of a trial, whose mixture it is instead.
    phases: of `trial`, or of the best one, the path of the weights that a method moved while its
        proxy trained (`reweight`), as so many phases of equal length.
    path: where a domain's data is for the trainer, with {domain} or {index} in it.
    tokens: what the run will train on; a number, or text such as "40e9".
    sequence: tokens a sequence (default: 2048).
    batch: sequences of a step, so that phases end between steps.
    seed: for formats that shuffle (default: 42).
    corpus: where the corpus lies on this machine.
    """

    mixture: Mapping[str, float] | Schedule | str | Path | None
    rule: str | None
    trial: int | None
    phases: int | None
    path: str | None
    tokens: float | str | None
    sequence: int
    batch: int | None
    seed: int
    corpus: str | Path | None


def export(
    study: optuna.Study, format: str, output: str | Path | None = None, **settings: Unpack[Settings]
) -> str:
    """The mixture to train on, in the form a trainer reads.

    Args:
        format: "json", "megatron" or another that `climb-opt ls formats` lists, or "module:Name".
        output: a file to write it to, too; of a schedule, where the format says one mixture only,
            a file for each phase: mix-1.yaml, mix-2.yaml for mix.yaml. An export of the same
            format that is there is replaced.
        settings: `rule`, `trial` or `mixture`, `tokens`, `path`, `sequence`, `batch`, `seed`,
            `corpus`: the options of `climb-opt export`.

    Raises:
        UserError: an unknown format, nothing to export yet, no such trial, another corpus, a
            file that cannot be written or is no such export, or a schedule without a file in a
            format that says one mixture only.

    >>> import climb_opt, optuna
    >>> space = climb_opt.MixtureSpace({"web": 7, "code": 2, "math": 1})
    >>> study = optuna.create_study(sampler=climb_opt.SimplexGPSampler(space, seed=0))
    >>> study.optimize(lambda trial: (space.suggest(trial)["code"] - 0.5) ** 2, n_trials=6)
    >>> weights = climb_opt.export(study, "yaml", "runs/mixture.yaml", trial=0)
    >>> sorted(line.partition(":")[0] for line in weights.splitlines() if line[0] != "#")
    ['code', 'math', 'web']
    """
    if output is not None:
        return "\n".join(export_files(study, format, output, **settings).values())
    format_of(format)  # before the study is read
    return render(format, handover_of(study, **settings))


def export_files(
    study: optuna.Study, format: str, output: str | Path, **settings: Unpack[Settings]
) -> dict[Path, str]:
    """Write what `export` gives to a file; of a schedule, where the format says one mixture only,
    to a file for each phase: mix.yaml is then mix-1.yaml, mix-2.yaml and so on.

    Returns:
        file -> its text, in the order of the phases.
    """
    chosen = format_of(format)  # before the study is read
    path, found = Path(output), dict[Path, str]()

    def write(texts: list[str]) -> None:
        names = [path]
        if len(texts) > 1:
            names = [path.with_stem(f"{path.stem}-{n + 1}") for n in range(len(texts))]
        found.update(zip(names, texts, strict=True))
        for file, text in found.items():
            check_replaced(file, f"export of {format}", partial(chosen.replaces, text=text))
        for file, text in found.items():
            write_text(file, text)

    render_phases(format, handover_of(study, **settings), write)
    return found


def materialise(
    study: optuna.Study,
    output: str | Path,
    *,
    kind: Kind = "tokens",
    progress: Callable[[int, int], None] = lambda done, total: None,
    **settings: Unpack[Settings],
) -> Written:
    """Write the mixed data itself into the folder `output`, for a budget of tokens.

    Args:
        kind: "tokens" with Megatron's index, or "documents" as text.
        progress: called with the tokens written so far, and those of the budget.
        settings: as for `climb_opt.export`; `tokens` is needed.

    Raises:
        UserError: as `climb_opt.export`; no budget, no corpus, or a folder that holds other things.

    >>> import climb_opt
    >>> study = climb_opt.open_study("tiny.yaml", storage="runs/materialise.journal")
    >>> space = climb_opt.MixtureSpace(climb_opt.Corpus.load("corpora/tiny").tokens())
    >>> climb_opt.work(study, objective=lambda trial: space.suggest(trial)["code"])
    >>> written = climb_opt.materialise(study, "runs/mixed", tokens=2000, rule="observed")
    >>> written.path.name, written.total
    ('mixture.bin', 2000)
    """
    if settings.get("path") is not None:
        raise UserError("--path is for other formats: materialising reads the corpus (--corpus).")
    handover = handover_of(study, needs_corpus=True, **settings)
    assert handover.corpus is not None
    done = 0

    def count(tokens: int) -> None:
        nonlocal done
        done += tokens
        progress(done, handover.tokens or 0)

    return write_data(handover, handover.corpus, Path(output), kind=kind, progress=count)


def handover_of(
    study: optuna.Study,
    *,
    needs_corpus: bool = False,
    mixture: Mapping[str, float] | Schedule | str | Path | None = None,
    rule: str | None = None,
    trial: int | None = None,
    phases: int | None = None,
    path: str | None = None,
    tokens: float | str | None = None,
    sequence: int = 2048,
    batch: int | None = None,
    seed: int = 42,
    corpus: str | Path | None = None,
) -> Handover:
    """The study's mixture with what is known of its corpus; arguments and errors as of `export`.

    Args:
        needs_corpus: refuse where the corpus is not at hand.
    """
    sequence, seed = whole_number(sequence, "--sequence"), whole_number(seed, "--seed", 0)
    batch = None if batch is None else whole_number(batch, "--batch")
    phases = None if phases is None else whole_number(phases, "--phases")
    of_trial = trial if phases is None else phases  # a path may be that of a named trial
    which = {"rule": rule, "trial" if phases is None else "phases": of_trial, "mixture": mixture}
    named = [name for name, value in which.items() if value is not None]
    if len(named) > 1:
        raise UserError(
            f"--{named[0]} and --{named[1]} exclude each other: each says which mixture."
        )
    budget, view = _tokens(tokens), StudyView(study)
    if mixture is not None:
        schedule, said = _given(view, mixture)
    elif phases is not None:
        schedule, said = _path(view, trial, phases)
    else:
        schedule, said = _mixture(view, rule, trial)
    return prepare(
        schedule,
        study=view.name,
        **said,
        corpus=corpus_of(study, corpus, needed=needs_corpus),
        corpus_path=str(corpus or (view.recipe.corpus_folder if view.recipe else None) or "CORPUS"),
        inventory=view.corpus.tokens if view.corpus is not None else None,
        template=path,
        tokens=budget,
        sequence=sequence,
        batch=batch,
        seed=seed,
    )


# --- private -------------------------------------------------------------------------------------


# What is handed over, and the fields of a `Handover` that say where it comes from.
Chosen = tuple[Mapping[str, float] | Schedule, dict[str, str]]


def _given(view: StudyView, mixture: Mapping[str, float] | Schedule | str | Path) -> Chosen:
    if isinstance(mixture, (str, Path)):
        where, schedule = str(mixture), read_schedule(mixture)
    else:
        plain = mixture if isinstance(mixture, Mapping) else schedule_data(mixture)
        where, schedule = "the given mixture", schedule_from(plain, "the given mixture")
    known = one_phase(view.space).domains
    for name in mean_mixture(schedule):
        if name not in known:
            raise UserError(f"{where}: unknown {misnamed('domain', name, known)}")
    return schedule, {"origin": where}


def _path(view: StudyView, number: int | None, phases: int) -> Chosen:
    if number is None:
        trial, path = best_path(view.history())
        number = trial.number
    else:
        paths = {t.number: t.user_attrs[PATH] for t in view.trials() if PATH in t.user_attrs}
        if number not in paths:
            raise UserError(
                f"Trial {number} of study {view.name!r} has no path of weights; trials of proxies "
                "with `reweight` have one. Drop --phases, or give another trial."
            )
        path = paths[number]
    return path_schedule(path, phases), {"origin": f"the path of trial {number}"}


def _mixture(view: StudyView, rule: str | None, trial: int | None) -> Chosen:
    if trial is None:
        advice = advised(view.study, "to export", rule, every=False)
        chosen = advice.chosen
        as_good = no_claim(chosen, confirmation_beside(view.study))
        said = {"rule": advice.followed, "rung": chosen.rung, "as_good": as_good}
        return _trained(view, chosen), said
    trials = {t.number: t for t in view.trials()}
    if trial not in trials:
        raise UserError(f"Study {view.name!r} has no trial {trial}.")
    weights = view.space.weights_of(trials[trial])
    if weights is None:
        remedy = "Give the number of another trial."
        if PATH in trials[trial].user_attrs:
            remedy = (
                f"A method moved its weights: --phases N (beside --trial {trial}) hands over their "
                "path as N phases."
            )
        raise UserError(f"Trial {trial} of {view.name!r} holds no mixture. {remedy}")
    rung = view.ladder.rungs[view.ladder.rung_of(trials[trial])].name if view.ladder else ""
    return _trained(view, view.space.mixture(weights)), {"origin": f"trial {trial}", "rung": rung}


def _trained(view: StudyView, mixture: Mapping[str, float]) -> Mapping[str, float] | Schedule:
    mean, schedule = to_train(view.space, mixture)
    return schedule or dict(mean)


def _tokens(given: float | str | None) -> int | None:
    """A budget as a whole number; text is read to the last digit where it is one."""
    if given is None:
        return None
    try:
        text = given.replace("_", "") if isinstance(given, str) else given
        tokens = int(text) if isinstance(text, int) or str(text).isdecimal() else float(text)
    except (TypeError, ValueError):
        tokens = float("nan")
    if not 1 <= tokens < 1e18:
        raise UserError(f"--tokens must be a number of tokens such as 40e9, but is {given!r}.")
    return int(tokens)
