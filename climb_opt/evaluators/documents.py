"""A task's documents as requests, built once a search, and checked before anything is trained.

Prompts are lm-eval's own: its examples drawn with its seed, in the order of the documents. Every
process builds all of them, so that a document's prompt is the same in each, whichever scores it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from lm_eval.api.samplers import ContextSampler
from lm_eval.defaults import DEFAULT_OTHER_SEED  # the seed of lm-eval's own examples

from climb_opt.errors import UserError, brief
from climb_opt.evaluators.answers import Document, made_up, measure
from climb_opt.evaluators.labels import BadRow, check_example, right_places, suspicions
from climb_opt.evaluators.tasks import LoadedTask, documents, source, templates_compiled_once

log = logging.getLogger(__name__)

T = TypeVar("T")


def build_documents(
    task: LoadedTask, limit: int | None, *, tokens: Callable[[str], int], skip_bad: bool
) -> list[Document]:
    """The documents of a task that are scored, each tried with made-up answers.

    Args:
        tokens: how many tokens the proxy sees of a text.
        skip_bad: leave out rows that cannot be scored, and say how many, instead of refusing.

    Raises:
        UserError: a row, or a row shown as an example, that cannot be scored; too few examples.
    """
    found: list[Document] = []
    with templates_compiled_once():
        for index, part in enumerate(task.parts):
            _prepare_examples(part, task.split, skip_bad=skip_bad)
            place = source(part, _split_name(part, task.split))
            made = partial(_document, part, index, tokens)
            rows, name = documents(part, limit), part.config.task
            good = _sifted(rows, made, "score", name, place, skip_bad=skip_bad)
            _look_for_empty(part, good, place)
            _look_for_patterns(part, good, place)
            found += good
    if not found:
        raise UserError(f"lm-eval: task {task.name} has no rows.")
    return found


def _document(
    part: Any, index: int, tokens: Callable[[str], int], number: int, doc: Any
) -> Document:
    places = right_places(part, doc)
    context = part.fewshot_context(
        doc,
        num_fewshot=part.config.num_fewshot or 0,
        system_instruction=None,
        apply_chat_template=False,
        fewshot_as_multiturn=False,
        chat_template=None,
        gen_prefix=part.doc_to_prefix(doc),
    )
    requests = part.construct_requests(
        doc=doc,
        ctx=context,
        metadata=(part.config.task, number, part.config.repeats),
        apply_chat_template=False,
        chat_template=None,
    )
    requests = requests if isinstance(requests, list) else [requests]
    rolling = part.OUTPUT_TYPE == "loglikelihood_rolling"
    if places is None:
        places = (0,) if len(requests) == 1 and not rolling else ()
    document = Document(index, number, doc, requests, places)
    for place, request in enumerate(requests):
        request.args[0].encode()  # half of a character pair is no text
        if not rolling:
            _check_scored(request.args[1], tokens, right=place in places)
    measure(part, [document], [made_up(document)])
    return document


def _check_scored(text: str, tokens: Callable[[str], int], *, right: bool) -> None:
    which = "its right answer" if right else "an answer"
    if not text:
        raise BadRow(f"{which} has no bytes")
    if not tokens(text):
        raise BadRow(f"{which} {text!r} has no tokens: the corpus's tokenizer drops all of it")


def _prepare_examples(part: Any, split: str, *, skip_bad: bool) -> None:
    part.set_fewshot_seed(DEFAULT_OTHER_SEED)
    shots, sampler = part.config.num_fewshot or 0, getattr(part, "sampler", None)
    if not shots or sampler is None:
        return
    name, given = part.config.task, part.fewshot_cfg
    place = source(part, given.split or part.config.training_split or _split_name(part, split))

    def shown(number: int, doc: Any) -> Any:
        check_example(part, doc)
        return doc

    good = _sifted(sampler.df, shown, "show", f"{name}, examples", place, skip_bad=skip_bad)
    if len(good) < len(sampler.df):
        sampler.replace_df(good)
    # lm-eval's own sampler draws one more where the row itself might be among them.
    needed = shots + (type(sampler) is ContextSampler and given.split == part.config.test_split)
    if len(good) < needed:
        raise UserError(
            f"lm-eval: task {name}: {shots} examples before each question need {needed} rows, but "
            f"there are {len(good)} ({place}). Lower shots, or the task's num_fewshot."
        )
    if split == "validation" and given.split == part.config.validation_split:
        log.warning(
            "lm-eval: task %s takes its examples from the rows that are scored: a row may stand, "
            "with its answer, before itself (%s).",
            *(name, place),
        )


def _sifted(
    rows: Iterable[Any],
    take: Callable[[int, Any], T],
    verb: str,
    name: str,
    place: str,
    *,
    skip_bad: bool,
) -> list[T]:
    """What `take` makes of each number and row; rows that it cannot take are refused, or left out
    and counted."""
    good: list[T] = []
    bad: list[str] = []
    for number, row in enumerate(rows):
        try:
            good.append(take(number, row))
        except BadRow as error:
            bad.append(f"row {number + 1}: {error}")
        except Exception as error:  # a task is its author's code: anything
            bad.append(f"row {number + 1}: lm-eval cannot {verb} it ({brief(error)})")
    if not bad:
        return good
    what, count = f"lm-eval: task {name}, {bad[0]} ({place})", len(bad)
    if skip_bad and good:
        log.warning("%s; %d of %d rows are left out.", what, count, count + len(good))
        return good
    more = f"; {count} of {count + len(good)} rows cannot be scored" if count > 1 else ""
    cure = "Mend it, or set skip_bad_rows: true" if good else "None of the rows can be scored"
    raise UserError(f"{what}{more}. {cure}.")


def _look_for_empty(part: Any, good: list[Document], place: str) -> None:
    if part.OUTPUT_TYPE != "loglikelihood_rolling":
        return
    empty = [document.number + 1 for document in good if not document.requests[0].args[0]]
    if empty and len(empty) == len(good):
        raise UserError(f"lm-eval: task {part.config.task}: every row is empty ({place}).")
    if empty:
        log.warning(
            "lm-eval: task %s: %d of %d rows are empty and count for nothing, row %d first (%s).",
            *(part.config.task, len(empty), len(good), empty[0], place),
        )


def _look_for_patterns(part: Any, good: Iterable[Document], place: str) -> None:
    single = [document for document in good if len(document.right) == 1]
    if part.OUTPUT_TYPE != "multiple_choice" or isinstance(part.config.doc_to_target, int):
        return  # no column of labels: the task's author put the right answer first
    labels = [document.right[0] for document in single]
    choices = [part.doc_to_choice(document.doc) for document in single]
    for doubt in suspicions(labels, choices) if labels else []:
        log.warning("lm-eval: task %s: %s (%s).", part.config.task, doubt, place)


def _split_name(part: Any, split: str) -> str | None:
    return part.config.test_split if split == "test" else part.config.validation_split
