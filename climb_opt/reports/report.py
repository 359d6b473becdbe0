"""`climb_opt.report`: from a study to all that a report says, and to its page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from climb_opt.files import check_replaced, write_text
from climb_opt.progress import doing
from climb_opt.reports.contents import Contents, gather
from climb_opt.reports.draw import markdown as as_markdown
from climb_opt.reports.draw import page
from climb_opt.reports.snapshot import take
from climb_opt.retrain.confirm import confirmation_beside
from climb_opt.retrain.noise import noise_beside
from climb_opt.selection import advise
from climb_opt.selection.trusting import distrusted
from climb_opt.study import corpus_of

if TYPE_CHECKING:
    from climb_opt.corpus.after.map import Points

# The figures at a glance in Markdown: as they are now, and as version 0.1.0 began with them.
GLANCE = re.compile(
    r"^(slots|trials) finished: .*domains: |^\d+ of \d+ slots finished; \d+ domains; ", re.MULTILINE
)


def report(
    study: optuna.Study,
    output: str | Path | None = None,
    *,
    markdown: bool = False,
    rule: str | None = None,
    predictor: str | None = None,
    corpus: str | Path | None = None,
) -> str:
    """The report of a study, as one HTML page that needs no network, or as Markdown.

    Args:
        output: a file to write it to, too; a report that is there is replaced.
        markdown: Markdown for a pull request instead of HTML.
        rule: the rule whose mixture is recommended (default: the one that loses least).
        predictor: whose quality is shown (default: the search's own).
        corpus: where the corpus lies on this machine, for its map.

    Raises:
        UserError: no trial holds a mixture, an unknown rule or predictor, another corpus, or
            another file where the report would be.

    >>> import climb_opt, optuna
    >>> space = climb_opt.MixtureSpace({"web": 7, "code": 2, "math": 1})
    >>> study = optuna.create_study(study_name="code", sampler=climb_opt.SimplexGPSampler(space))
    >>> study.optimize(lambda trial: (space.suggest(trial)["code"] - 0.5) ** 2, n_trials=6)
    >>> text = climb_opt.report(study, "runs/code.md", markdown=True, rule="observed")
    >>> text.splitlines()[0]
    '# code'
    """
    if output is not None:
        check_replaced(Path(output), "report", is_report)
    with doing("report"):
        atlas = None if markdown else _atlas(study, corpus)
        contents = contents_of(study, rule=rule, predictor=predictor, atlas=atlas)
        text = as_markdown.render(contents) if markdown else page.render(contents)
    if output is not None:
        write_text(Path(output), text)
    return text


def is_report(text: str) -> bool:
    """Whether a text begins as a report does: a page, or Markdown with the figures at a glance."""
    if text.startswith("# "):
        return GLANCE.search(text) is not None
    return text.startswith("<!doctype html>") and f"{page.TITLE}</title>" in text


def contents_of(
    study: optuna.Study,
    *,
    rule: str | None = None,
    predictor: str | None = None,
    every_rule: bool = True,
    atlas: Points | None = None,
) -> Contents:
    """Everything a report says of the study.

    Args:
        every_rule: False for the recommended mixture alone, which takes a fraction of the time.
        atlas: the map of the study's corpus, to show the mixture on.
    """
    snapshot = take(study)
    advice = advise(study, rule, every=every_rule, history=snapshot.judged)
    return replace(
        gather(snapshot, advice, predictor=predictor),
        confirmation=confirmation_beside(study),
        noise=noise_beside(study),
        distrusted=distrusted(snapshot, snapshot.space, snapshot.tried),
        atlas=atlas,
    )


def _atlas(study: optuna.Study, path: str | Path | None) -> Points | None:
    """The map of the study's corpus; None where it is not at hand or was not clustered here."""
    corpus = corpus_of(study, path, needed=False)
    if corpus is None:
        return None
    from climb_opt.corpus.after import map as maps
    from climb_opt.corpus.folder import CLUSTERS

    return maps.points(corpus) if (corpus.path / CLUSTERS).is_file() else None
