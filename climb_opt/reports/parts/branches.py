"""The section on trunk and branches: what they are, how far they went, what they saved."""

from __future__ import annotations

from climb_opt.attributes import SLOT
from climb_opt.history import facts_of
from climb_opt.ladder.branches.slots import checks_branches, is_branch, part_of
from climb_opt.reports.contents import Contents
from climb_opt.reports.section import Block, Cell, Name, Section, Table, Words
from climb_opt.text import counted, duration, flops, number


def branches(contents: Contents) -> Section | None:
    """The study's trunk and branches, where it has some."""
    trials = [t for t in contents.snapshot.trials if is_branch(t) and t.state.is_finished()]
    done = [t for t in trials if t.state.name == "PRUNED"]
    if not done:
        return None
    blocks: list[Block] = [Words(_summary(contents))]
    blocks += [
        Words(f"{str(verdict)[:1].upper()}{str(verdict)[1:]}.", "" if verdict.holds else "caution")
        for verdict in contents.snapshot.plan.verdicts(contents.snapshot.trials)
    ]
    rows: list[list[Cell]] = []
    for trial in done:
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
    target = ladder.rungs[-1].flops
    parts = ladder.spent(trial for trial in snapshot.trials if is_branch(trial))
    read = [t for t in snapshot.tried.trials if ladder.rung_of(t) < len(plan.before.readouts)]
    own = sum(not checks_branches(t.user_attrs.get(SLOT, "")) for t in read)
    text += (
        f" {counted(own, 'mixture')} of the search were read off branches, which took "
        f"{flops(parts)} with the trunk: as much as {number(parts / target, 3)} trials of the "
        "target."
    )
    if own:
        text += f" Training them would have taken {flops(own * target)}."
    return text
