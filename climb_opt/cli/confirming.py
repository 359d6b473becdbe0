"""`climb-opt confirm`: retrain what a search recommends, and the baselines, with fresh seeds."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from climb_opt.cli import crew, retraining
from climb_opt.cli.following import Following
from climb_opt.cli.naming import existing, study_arguments
from climb_opt.cli.offering import names_of, offer, recipes_of
from climb_opt.cli.stopping import Stop, leads
from climb_opt.errors import UserError

if TYPE_CHECKING:
    import optuna

    from climb_opt.recipes import StudyRecipe
    from climb_opt.retrain import Finals

FOUND = "found"  # the default rule's mixture


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `confirm` to the command line."""
    command = subparsers.add_parser(
        "confirm",
        help="retrain the mixture found and the baselines with fresh seeds: is the gain real?",
        description="Retrain finalists and baselines with common fresh seeds, as a study "
        "NAME-confirm on the same storage. Start it on as many machines as you like; stopped, it "
        "is continued by the same command.",
    )
    study_arguments(command)
    command.add_argument("--seeds", type=int, help="fresh seeds (default: the recipe's)")
    command.add_argument(
        "--rules", metavar="RULE,...", help="further finalists: rules by name, or all"
    )
    command.add_argument(
        "--budget", type=int, metavar="RUNS", help="a race: at most this many training runs"
    )
    command.add_argument("--proxy", metavar="RECIPE", help="train another, larger proxy")
    retraining.arguments(command, "confirm")
    offer(command, rules=names_of("rule"), proxies=recipes_of("proxies"))
    command.set_defaults(run=_confirm)


def _confirm(args: argparse.Namespace) -> int | None:
    from climb_opt.attributes import CONFIRM, CONFIRMED_IN
    from climb_opt.retrain import longest_plan, read_finals, run
    from climb_opt.retrain.finals import SUFFIX
    from climb_opt.storages import location
    from climb_opt.study import discard_untried

    count = crew.wanted(args, location(args.storage))
    study = existing(args, write=True)
    name = args.own_name or f"{study.study_name}{SUFFIX}"
    confirm = retraining.joins(study, name, CONFIRM) or _main(args, study)

    def train(objective: Any, stop: Stop, follow: Following) -> None:
        earlier = [n for n in study.user_attrs.get(CONFIRMED_IN, []) if n != confirm.study_name]
        study.set_user_attr(CONFIRMED_IN, [*earlier, confirm.study_name])
        run(confirm, _runner(objective, stop, follow), max_attempts=_attempts(confirm))

    try:
        plan, most = longest_plan(confirm, _attempts(confirm)), read_finals(confirm).budget
        status = retraining.retrain(confirm, args, plan, train, count=count, total=most)
        if status is not None:
            _show(confirm)
        return status
    except UserError:
        # What cannot train, for want of its corpus for example, must not keep the name.
        if leads():
            discard_untried(confirm)
        raise


def _main(args: argparse.Namespace, study: optuna.Study) -> optuna.Study:
    from climb_opt import recipes
    from climb_opt.retrain import open_confirmation
    from climb_opt.study import read_recipe

    recipe = read_recipe(study)
    finals = _finals(args, study, recipe)
    if args.proxy:
        recipe = dataclasses.replace(recipe, proxy=recipes.read_proxy(args.proxy))
    confirm, stored = open_confirmation(study, finals, recipe, name=args.own_name)
    names = ", ".join(stored.mixtures)
    limit = "" if stored.budget is None else f", {stored.budget} runs in all"
    print(f"{confirm.study_name}: {names}, up to {stored.seeds} seeds each{limit}.", flush=True)
    return confirm


def _finals(args: argparse.Namespace, study: optuna.Study, recipe: StudyRecipe) -> Finals:
    from climb_opt.measures import apart
    from climb_opt.reports.assemble import advise
    from climb_opt.reports.snapshot import take
    from climb_opt.retrain import Finals, choose, unit_for
    from climb_opt.study import baselines

    snapshot = take(study)
    advice = advise(study, snapshot, every=args.rules is not None)
    if len(snapshot.directions) > 1:
        raise UserError(
            f"Study {study.study_name!r} has several objectives, but a verdict is about one. "
            "Choose from its Pareto set in `climb-opt report`, then `climb-opt export --trial N`."
        )
    if advice is None:
        raise UserError(
            f"Study {study.study_name!r} has nothing to confirm yet: no trial has finished. "
            f"`climb-opt status {study.study_name}` shows how far it is."
        )
    recommended = {FOUND: dict(advice.chosen)}
    if args.rules is not None:
        wanted = _rules(args.rules, list(advice.recommended))
        recommended.update({r: dict(m) for r, m in advice.recommended.items() if r in wanted})
    references = {
        str(slot).partition("/")[2]: mixture
        for slot, mixture in baselines(recipe, snapshot.space).items()
    }
    if not references:
        raise UserError(
            "The recipe has no baselines to compare with; add `baselines: [prior]` and search "
            "again under another --study-name."
        )
    mixtures, finalists, baseline_names = choose(recommended, references)
    for name in sorted(set(recommended) - set(finalists)):
        same = min(finalists, key=lambda f: apart(recommended[f], recommended[name]))
        print(f"{name} recommends the same mixture as {same}.")
    return Finals(
        of=study.study_name,
        mixtures=mixtures,
        finalists=finalists,
        references=baseline_names,
        seeds=recipe.confirm_seeds if args.seeds is None else args.seeds,
        first_seed=recipe.seed + 1,  # the search itself used recipe.seed throughout
        budget=args.budget,
        unit=unit_for(recipe),
    )


def _rules(given: str, known: list[str]) -> set[str]:
    if given == "all":
        return set(known)
    names = {name.strip() for name in given.split(",")}
    unknown = sorted(names - set(known))
    if unknown:
        raise UserError(f"--rules: unknown rule {unknown[0]!r}. Known: {', '.join(known)}, all.")
    return names


def _runner(objective: Any, stop: Stop, follow: Following) -> Any:
    from climb_opt.study import run_plan

    def call(
        study: optuna.Study, plan: Any, mixtures: Mapping[Any, Any], attrs: Mapping[Any, Any]
    ) -> None:
        run_plan(
            study,
            plan,
            objective,
            mixtures=mixtures,
            attrs=attrs,
            stop=stop,
            on_trial=follow.show,
        )

    return call


def _attempts(confirm: optuna.Study) -> int:
    from climb_opt.study import read_recipe

    return read_recipe(confirm).max_attempts


def _show(confirm: optuna.Study) -> None:
    from climb_opt.reports.draw.terminal import confirmed
    from climb_opt.retrain import confirmation_of
    from climb_opt.view import StudyView

    found = confirmation_of(confirm)
    print()
    print(confirmed(found, StudyView(confirm).space.domains))
    open_ends = [d for d in found.differences() if d.verdict not in ("better", "worse")]
    if open_ends:
        print("More seeds narrow the intervals: the same command with a larger --seeds goes on.")
    if found.failed:
        print(f"Failed attempts: {found.failed}; see `climb-opt status {confirm.study_name}`.")
