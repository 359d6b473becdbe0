"""Formats that are Python: a mixture or a schedule as a program that builds the mixed data set.

The programs are in templates/. Names and paths enter as Python literals (`repr`) or comments, never
as text pasted into code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import Any

from climb_opt.exports.handover import Handover, Source, under_head
from climb_opt.lookup import facts

TEMPLATES = Path(__file__).with_name("templates")  # of `string.Template`

DOCUMENTS: dict[str, Any] = {
    "places": lambda h: h.paths("data/domain_{index}.jsonl"),
    "layout": "jsonl",
}


def _steps(option: str) -> Callable[[Handover], str]:
    def told(handover: Handover) -> str:
        if handover.phases:
            return f"{option} by phase: steps(the sequences of a step) of the module"
        return f"{option}: {handover.sequences} / the sequences of a step"

    return told


@facts(
    **DOCUMENTS,
    budget=_steps("max_steps"),
    phases=True,
    goes_on=True,
    known=under_head(r'""".*stream of documents.*'),
)
def hugging_face(handover: Handover) -> str:
    """Python: a module whose `mixture()` is `datasets.interleave_datasets` over the domains."""
    lengths = "".join(
        f"    {s.name!r}: {s.tokens / s.documents:.6g},\n"
        for s in _sources(handover)
        if s.tokens and s.documents
    )
    return _filled("hugging_face", handover, lengths=lengths, open=_text("open_documents"))


@facts(
    **DOCUMENTS,
    budget=_steps("training.steps"),
    phases=True,
    known=under_head(r'""".* for torchtitan .*'),
)
def torchtitan(handover: Handover) -> str:
    """torchtitan: a module whose `dataloader()` is a config that mixes packed sources."""
    parts = {"imports": _text("torchtitan_imports"), "packed": _text("torchtitan_sources")}
    return _filled("torchtitan", handover, **parts)


def _sources(handover: Handover) -> list[Source]:
    """The domains of any phase, each once, largest first."""
    every = [*handover.sources, *(s for phase in handover.phases for s in phase.sources)]
    return list({source.name: source for source in reversed(every)}.values())[::-1]


def _filled(name: str, handover: Handover, **more: str) -> str:
    """A template filled in; of a schedule that for phases."""
    suffix = "_phases" if handover.phases else ""
    sources = _sources(handover)
    places = DOCUMENTS["places"](replace(handover, sources=tuple(sources)))
    paths = {source.name: place for source, place in zip(sources, places, strict=True)}
    if handover.phases:
        more["phases"] = "".join(map(_phase, handover.phases))
        rows = "".join(f"    {name!r}: {path!r},\n" for name, path in paths.items())
    else:
        rows = "".join(f"    {s.name!r}: ({s.weight!r}, {paths[s.name]!r}),\n" for s in sources)
    budget = Template(_text(f"budget{suffix}"))
    values = {
        "head": "".join(f"# {line}\n" for line in handover.head),
        "rows": rows,
        "budget": budget.substitute(tokens=handover.tokens, sequence=handover.sequence),
        "seed": handover.seed,
    }
    return Template(_text(f"{name}{suffix}")).substitute(values, **more)


def _phase(phase: Handover) -> str:
    assert phase.span is not None
    mixture = {source.name: source.weight for source in phase.sources}
    return f"    ({phase.span.share!r}, {mixture!r}),\n"


def _text(name: str) -> str:
    return (TEMPLATES / f"{name}.py.txt").read_text(encoding="utf-8")
