"""What an ablation would run, before it runs: shapes, trials, tokens, GPU hours.

FLOPs and GPU hours are counted by `proxy/cost.py`; what is assumed of a GPU is stated with every
figure.
"""

from __future__ import annotations

from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import Arm, arms, judged_study, settings
from climb_opt.errors import UserError
from climb_opt.ladder.recipe import rung_count
from climb_opt.proxy.cost import VOCABULARY, assumed_speed, gpu_hours, shape_size, trial_cost
from climb_opt.proxy.ladders import branching_flops, priced_ladder
from climb_opt.recipes import ProxyRecipe, StudyRecipe
from climb_opt.shards import Corpus
from climb_opt.text import amount, counted, hours_text, pipe_table


def plan_text(name: str, recipe: AblationRecipe) -> str:
    """The plan as Markdown."""
    lines = [f"# Plan of {name}", ""]
    lines += [f"Answers to: {recipe.answers}", ""] if recipe.answers else []
    points = len(settings(recipe))
    lines += [
        f"Objective: {recipe.objective.name}; budget per arm and seed: {recipe.budget}; "
        f"{counted(recipe.seeds, 'seed')}" + (f"; {points} settings" if points > 1 else "") + ".",
        "",
    ]
    lines += _live(recipe) if recipe.live else _emulated(recipe, points)
    return "\n".join([*lines, ""])


# --- private -----------------------------------------------------------------------------------


def _emulated(recipe: AblationRecipe, points: int) -> list[str]:
    rows = []
    for arm in arms(recipe):
        chosen = arm.searches and arm.study.budget is not None  # how many, by the sampler
        trials = "-" if chosen else str(_trials(arm) * recipe.seeds * points)
        rows.append([arm.name, _rounds(arm), trials])
    return [*pipe_table(["arm", "rounds", "trials in all"], rows), "", "No model is trained."]


def _live(recipe: AblationRecipe) -> list[str]:
    resolved = arms(recipe)
    planned = [
        (name, rounds, proxy, trials * recipe.seeds, arm.study.corpus_folder)
        for arm in resolved
        for name, rounds, proxy, trials in _parts(arm)
    ]
    finals = len(resolved) * recipe.seeds * recipe.test.seeds
    judge = judged_study(recipe, resolved[0].study)
    retrained = ("final mixtures retrained", f"{finals} runs", judge.proxy, _whole(judge, finals))
    planned.append((*retrained, judge.corpus_folder))
    rows, total = [], 0.0
    for name, rounds, proxy, trials, corpus in planned:
        here = _corpus(corpus)
        cells, hours = _costs(proxy, trials, VOCABULARY if here is None else here.vocab_size)
        rows.append([name, rounds, *cells])
        total += hours
    head = ["arm", "rounds", "proxy", "parameters (without embeddings)", "tokens a trial"]
    return [
        *pipe_table([*head, "tokens in all", "H100 hours"], rows),
        "",
        f"In all {hours_text(total)} H100 hours, at {assumed_speed()}. Mixtures that several "
        "arms end with are retrained once, so this is the most.",
        *_assumed([arm.study.corpus_folder for arm in resolved]),
    ]


def _rounds(arm: Arm) -> str:
    if arm.study.budget is not None and arm.searches:
        return f"FLOPs of {arm.study.budget.flops:g} target trials"
    if arm.searches:
        return "/".join(map(str, arm.study.rounds))
    return "no search" if arm.options.fixed else counted(len(arm.study.baselines or "1"), "mixture")


def _parts(arm: Arm) -> list[tuple[str, str, ProxyRecipe, float]]:
    """Name, rounds, proxy and trials, for each rung that has rounds; a budget is the target's."""
    study = arm.study
    if arm.searches and study.budget is not None:
        return [(arm.name, _rounds(arm), study.proxy, study.budget.flops)]
    if not (arm.searches and study.rungs):
        return [(arm.name, _rounds(arm), study.proxy, _whole(study, _trials(arm)))]
    found, readouts = [], len(study.readouts)
    if study.branches is not None:
        found = [(f"{arm.name}, trunk and branches", "first", study.proxy, _whole(study, 0))]
    for rung in sorted(set(study.rungs)):
        sizes = [m for m, r in zip(study.rounds, study.rungs, strict=True) if r == rung]
        trials = float(sum(sizes)) if rung >= readouts else 0.0  # a read-out trains nothing
        if study.branches is not None and rung == rung_count(study) - 1:
            trials *= 1 - study.branches.share
        proxy = study.proxies[max(rung - readouts, 0)]
        found.append((f"{arm.name}, rung {rung}", "/".join(map(str, sizes)), proxy, trials))
    return found


def _whole(study: StudyRecipe, trials: float) -> float:
    """Trials of a study, after its trunk and branches if it has some, in trainings from scratch."""
    if study.branches is None:
        return float(trials)
    share = study.branches.share
    before, corpus = share, _corpus(study.corpus_folder)
    if corpus is not None:
        tokens = corpus.tokens()
        ladder = priced_ladder(study, tokens, corpus.vocab_size)
        before = branching_flops(study, ladder, tokens) * (1 - share) / ladder.rungs[-1].flops
    return before + (1 - share) * trials


def _trials(arm: Arm) -> int:
    return 0 if arm.options.fixed else sum(arm.study.rounds) + len(arm.study.baselines)


def _costs(proxy: ProxyRecipe, trials: float, vocabulary: int) -> tuple[list[str], float]:
    shape = proxy.model
    size = shape_size(shape, vocabulary) if shape.checkpoint is None else None
    cost = trial_cost(proxy, size)
    if size is None:
        text = [f"from {shape.checkpoint}", "-"]
    else:
        layers = f"{counted(shape.layers, 'layer')} x {shape.hidden}"
        text = [f"{layers}, {shape.heads} heads, MLP {shape.mlp}"]
        text.append(f"{amount(size.parameters)} ({amount(size.body)})")
    hours = gpu_hours(cost.flops or 0) * trials
    shown = hours_text(hours) if hours else "-"
    return [*text, amount(cost.tokens), amount(cost.tokens * trials), shown], hours


def _corpus(folder: str) -> Corpus | None:
    try:
        return Corpus.load(folder)
    except UserError:  # planned for another machine
        return None


def _assumed(corpora: list[str]) -> list[str]:
    missing = [corpus for corpus in dict.fromkeys(corpora) if _corpus(corpus) is None]
    if not missing:
        return []
    return [
        "",
        f"Not on this machine: {', '.join(missing)}; a vocabulary of {VOCABULARY:,} is assumed.",
    ]
