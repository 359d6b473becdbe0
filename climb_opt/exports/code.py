"""Formats that are Python: a mixture as a program that builds the mixed data set.

The programs are in templates/. Names and paths enter as Python literals (`repr`) or comments, never
as text pasted into code.
"""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Any

from climb_opt.exports.handover import Handover
from climb_opt.lookup import facts

TEMPLATES = Path(__file__).with_name("templates")  # of `string.Template`

DOCUMENTS: dict[str, Any] = {
    "places": lambda h: h.paths("data/domain_{index}.jsonl"),
    "layout": "jsonl",
}


@facts(**DOCUMENTS, budget=lambda h: f"max_steps: {h.sequences} / the sequences of a step")
def hugging_face(handover: Handover) -> str:
    """Python: a module whose `mixture()` is `datasets.interleave_datasets` over the domains."""
    lengths = "".join(
        f"    {s.name!r}: {s.tokens / s.documents:.6g},\n"
        for s in handover.sources
        if s.tokens and s.documents
    )
    return _filled("hugging_face", handover, lengths=lengths)


@facts(**DOCUMENTS, budget=lambda h: f"training.steps: {h.sequences} / the sequences of a step")
def torchtitan(handover: Handover) -> str:
    """torchtitan: a module whose `dataloader()` is a config that mixes packed sources."""
    return _filled("torchtitan", handover)


def _filled(name: str, handover: Handover, **more: str) -> str:
    rows = "".join(
        f"    {source.name!r}: ({source.weight!r}, {path!r}),\n"
        for source, path in zip(handover.sources, DOCUMENTS["places"](handover), strict=True)
    )
    budget = _template("budget").substitute(tokens=handover.tokens, sequence=handover.sequence)
    head = "".join(f"# {line}\n" for line in handover.head)
    values = {"head": head, "rows": rows, "budget": budget, "seed": handover.seed}
    return _template(name).substitute(values, **more)


def _template(name: str) -> Template:
    return Template((TEMPLATES / f"{name}.py.txt").read_text(encoding="utf-8"))
