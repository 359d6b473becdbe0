"""The report as one HTML page that needs no network and runs no script."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import climb_opt
from climb_opt.report import atlas, influence, markup, mixture, objectives, sections
from climb_opt.report.contents import Contents
from climb_opt.text import in_html, printable

STYLE = Path(__file__).with_name("style.css")


def write(contents: Contents, path: Path, *, now: datetime | None = None) -> None:
    """Write the page to `path`, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(contents, now=now), encoding="utf-8")


def render(contents: Contents, *, now: datetime | None = None) -> str:
    """The page.

    Args:
        now: printed as the time of the report; the present when None.
    """
    body = [
        sections.overview(contents),
        sections.confirmation(contents),
        objectives.several(contents),
        mixture.recommendation(contents),
        sections.progress(contents),
        mixture.mixtures(contents),
        atlas.atlas(contents),
        influence.influence(contents),
        mixture.repetition(contents),
        objectives.guard_rails(contents),
        sections.failures(contents),
        sections.provenance(contents),
    ]
    name = printable(contents.snapshot.name)
    head = f"<header><h1>{in_html(name)}</h1>{_about(contents)}{_contents_of(body)}</header>"
    stamp = (now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
    foot = f"<footer>climb_opt {climb_opt.__version__} · {stamp}</footer>"
    main = f"<main>{''.join(body)}</main>"
    return markup.page(
        f"{name} · mixture search", STYLE.read_text(encoding="utf-8"), head + main + foot
    )


def _about(contents: Contents) -> str:
    snapshot, recipe = contents.snapshot, contents.snapshot.recipe
    text = f"{len(snapshot.space)} domains"
    if recipe is not None:
        text = f"Corpus {recipe.corpus}, {text}, sampler {recipe.sampler.name}"
        for name, objective in recipe.objectives().items():
            better = "higher" if objective.direction == "maximize" else "lower"
            text += f", {name} of {', '.join(objective.coefficients())} ({better} is better)"
    return markup.paragraph(text + ".", "soft")


def _contents_of(body: list[markup.Html]) -> str:
    links = []
    for part in body:
        found = re.match(r'<section id="([a-z-]+)"><h2>(.*?)</h2>', part)
        if found:
            links.append(f'<a href="#{found[1]}">{found[2]}</a>')
    return f"<nav>{''.join(links)}</nav>" if links else ""
