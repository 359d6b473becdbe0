"""The section on trunk and branches: what they are, how far they went, what they saved."""

from __future__ import annotations

from climb_opt.attributes import SLOT
from climb_opt.history import facts_of
from climb_opt.ladder.branches.saved import saved_by
from climb_opt.ladder.branches.slots import OPTIMUM, is_branch, part_of
from climb_opt.reports.contents import Contents
from climb_opt.reports.section import Block, Cell, Name, Section, Table, Words
from climb_opt.study_recipe import MIXMIN
from climb_opt.text import counted, duration, flops, number


def branches(contents: Contents) -> Section | None:
    """The study's trunk and branches, where it has some."""
    trials = [t for t in contents.snapshot.taken if is_branch(t) and t.state.is_finished()]
    done = [t for t in trials if t.state.name == "PRUNED"]
    if not done:
        return None
    blocks: list[Block] = [Words(_summary(contents))]
    blocks += [Words(f"{note}.", "caution") for note in contents.snapshot.plan.before.notes]
    blocks += [
        Words(f"{str(verdict)[:1].upper()}{str(verdict)[1:]}.", "" if verdict.holds else "caution")
        for verdict in contents.snapshot.plan.verdicts(contents.snapshot.taken)
    ]
    rows: list[list[Cell]] = []
    for trial in done:
        if trial.user_attrs[SLOT] == MIXMIN:
            blocks.append(Words(_optimum(contents)))
            continue
        facts = facts_of(trial)
        shift = facts.get("shift")
        rows.append(
            [
                Name(str(part_of(trial.user_attrs[SLOT]))),
                facts.get("tokens"),
                flops(float(facts.get("flops", 0.0))),
                "–" if shift is None else f"{100 * float(shift):.1f} %",
                str(facts.get("digest", "–"))[:12],
                duration(float(facts.get("seconds", 0.0))),
            ]
        )
    head = ["part", "tokens", "trained for", "shift", "digest", "in"]
    blocks.append(Table(head, rows, text=(4,)))
    return Section("branches", "Trunk and branches", blocks)


def _summary(contents: Contents) -> str:
    """What was read off them, and what that saved."""
    snapshot = contents.snapshot
    ladder, plan = snapshot.ladder, snapshot.plan
    text = "Every trial of the target goes on from one trunk, so trials share what they begin with."
    if ladder is None or not plan.before.readouts:
        return text
    saved = saved_by(plan.before, ladder, snapshot.taken)
    text += (
        f" {counted(saved.mixtures, 'mixture')} of the search were read off branches and not "
        f"trained. Branches ({flops(saved.branches)}), mixtures trained to check them "
        f"({flops(saved.checks)}) and reading ({flops(saved.reading)}) took "
        f"{flops(saved.spent)}, as much as {number(saved.spent / saved.trial, 3)} trials that go "
        f"on from the trunk."
    )
    if saved.mixtures:
        text += (
            f" Training them from the trunk instead would have taken {flops(saved.instead)}: "
            + (f"{flops(saved.net)} more." if saved.net > 0 else f"{flops(-saved.net)} less.")
        )
    return text


def _optimum(contents: Contents) -> str:
    """How the ensemble's optimum did when it was trained."""
    text = "MixMin found the optimum of the branches' ensemble"
    trained = [
        trial.values[0]
        for trial in contents.snapshot.tried.trials
        if trial.user_attrs.get(SLOT) == OPTIMUM and trial.values
    ]
    return f"{text}; trained, it scored {number(trained[0], 5)}." if trained else f"{text}."
