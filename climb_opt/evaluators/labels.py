"""Which of a row's choices are right, and what is wrong with a row or a whole column of labels.

lm-eval scores most rows that nobody can score: it counts a label beyond the choices as a wrong
answer and -1 as the last one. Here such rows are found, before anything is trained.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterator, Sequence
from typing import Any

from lm_eval.api.task import ConfigurableTask

_PLACE = re.compile(r"([0-9]+)(\.0+)?")
_LETTERS = string.ascii_uppercase
_NUMBERS = {str: "numbers as text", float: "numbers with a decimal point"}
UNLIKELY = 0.05  # chance below which a pattern in a column is no accident
NO_ZERO = 0.2  # the same for a column without a 0: labels counted from 1 are a common mistake


class BadRow(ValueError):
    """A row that cannot be scored: what is wrong with it, not where it stands."""


def place_of(
    label: Any, choices: Sequence[str], marks: Sequence[Any] | None = None
) -> tuple[int, str]:
    """Which choice a file's label means, and how it is written ("": as the place, from 0).

    Args:
        marks: what the row itself calls its choices, as ARC does ("A", "B" or "1", "2").

    Raises:
        BadRow: it means none, or could mean either of two; what is allowed.
    """
    found = {place: how for how, place in _readings(label, choices, marks)}
    if len(found) == 1:
        return next(iter(found.items()))
    allowed = f"must be a number from 0 to {len(choices) - 1}"
    if marks is None:
        allowed += f", a letter from A to {_LETTERS[: len(choices)][-1]}, or a choice's text"
    else:
        allowed += f", or a choice's own label ({_listed([str(mark) for mark in marks])})"
    if isinstance(label, bool):
        allowed = "may be true or false where the choices are true and false, or yes and no"
    if found:
        both = " and ".join(f"{place} ({how or 'a number'})" for place, how in found.items())
        allowed += f"; this may mean the places {both}"
    raise BadRow(allowed)


def _readings(
    label: Any, choices: Sequence[str], marks: Sequence[Any] | None
) -> Iterator[tuple[str, int]]:
    """Every way to understand a label that gives a place."""
    said = label.strip() if isinstance(label, str) else str(label)
    if isinstance(label, bool):
        for pair in (("true", "false"), ("yes", "no")):
            names = [choice.casefold() for choice in choices]
            if sorted(names) == sorted(pair):
                yield "true or false", names.index(pair[not label])
        return
    if marks is not None:
        names = [str(mark).strip() for mark in marks]
        if names.count(said) == 1:
            yield "what their choices are called", names.index(said)
    if isinstance(label, str) and marks is None:
        if choices.count(said) == 1:
            yield "texts of choices", choices.index(said)
        letter = _LETTERS.find(said.upper()) if len(said) == 1 else -1
        if 0 <= letter < len(choices):
            yield "letters", letter
    digits = _PLACE.fullmatch(said) if marks is None or not isinstance(label, str) else None
    if digits is not None and len(said) < 20 and int(digits[1]) < len(choices):
        yield _NUMBERS.get(type(label), ""), int(digits[1])


def right_places(task: Any, doc: Any) -> tuple[int, ...] | None:
    """The places of the right answers among what a document asks; None where none is marked.

    Raises:
        BadRow: choices that are missing, empty, twice the same or not text, a label that names
            none of them, an answer that is missing or not text.
    """
    if task.OUTPUT_TYPE == "loglikelihood_rolling" or not isinstance(task, ConfigurableTask):
        return None
    if task.OUTPUT_TYPE != "multiple_choice":
        _check_answer(task.doc_to_target(doc))
        return (0,)
    choices = task.doc_to_choice(doc)
    _check_choices(choices)
    if task.multiple_input:
        _check_answer(task.doc_to_target(doc))
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    golds = gold if isinstance(gold, list) else [gold]
    if not golds:
        raise BadRow("no choice is marked as right")
    return tuple(_place(label, choices) for label in golds)


def check_example(task: Any, doc: Any) -> None:
    """The same for a row that stands as an example before the questions.

    Raises:
        BadRow: an example without an answer, or with one that is none of its choices.
    """
    given = task.fewshot_cfg
    choices = task.doc_to_choice(doc, given.doc_to_choice) if given.doc_to_choice else None
    answer = task.doc_to_target(doc, given.doc_to_target)
    if choices is not None:
        _check_choices(choices)
    if task.multiple_input:
        _place(task.doc_to_text(doc, given.doc_to_text), choices or ())
    # Examples may state their answer in other words than the choices.
    own_words = task.multiple_input or given.doc_to_target != task.config.doc_to_target
    answers = answer if isinstance(answer, list) else [answer]
    if not answers:
        raise BadRow("no choice is marked as right")
    for one in answers:
        if choices is None or (own_words and not isinstance(one, int)):
            _check_answer(one)
        else:
            _place(one, choices)


def text_of(task: Any, doc: Any) -> str:
    """Question and right answer as one text, without the examples before it."""
    places = right_places(task, doc)
    if places is None or task.OUTPUT_TYPE != "multiple_choice":
        return f"{task.doc_to_text(doc)} {task.doc_to_target(doc)}"
    right = str(task.doc_to_choice(doc)[places[0]])
    if task.multiple_input:
        return f"{right} {task.doc_to_target(doc)}"
    return f"{task.doc_to_text(doc)} {right}"


def suspicions(labels: Sequence[int], choices: Sequence[Sequence[str]]) -> list[str]:
    """What is formally fine about a column of labels and surely wrong.

    Args:
        labels: the right place of each row.
        choices: the texts that the rows choose among.
    """
    counts = [len(texts) for texts in choices]
    by_luck = math.prod(1 / count for count in counts[1:])
    if len({*labels}) == 1 and by_luck < UNLIKELY:
        return [f"all {len(labels)} rows have label {labels[0]}: whoever always says it is right"]
    found = []
    if 0 not in labels and math.prod(1 - 1 / count for count in counts) < NO_ZERO:
        found.append(
            f"no row has label 0 ({len(labels)} rows, labels {min(labels)} to {max(labels)}, "
            f"{max(counts)} choices); are they counted from 1?"
        )
    if by_luck < UNLIKELY and all(map(_longest, labels, choices)):
        found.append(f"the right answer is the longest choice in all {len(labels)} rows")
    return found


def _longest(label: int, texts: Sequence[str]) -> bool:
    return all(len(text) < len(texts[label]) for i, text in enumerate(texts) if i != label)


def _check_choices(choices: Any) -> None:
    if not isinstance(choices, (list, tuple)):
        raise BadRow(f"choices must be a list of texts, but are {choices!r}")
    if not choices:
        raise BadRow("it has no choices")
    for number, choice in enumerate(choices):
        if not isinstance(choice, str):
            raise BadRow(f"choice {number} is {choice!r}, not text")
        if not choice:
            raise BadRow(f"choice {number} is empty")
        if choice in choices[:number]:
            raise BadRow(f"choices {choices.index(choice)} and {number} are both {_short(choice)}")


def _check_answer(answer: Any) -> None:
    if answer is None or answer == "":
        raise BadRow("its answer is empty")
    if not isinstance(answer, str):
        raise BadRow(f"its answer is {_short(answer)}, not text")


def _place(label: Any, choices: Sequence[str]) -> int:
    if label is None:
        raise BadRow("its label is missing")
    if isinstance(label, str):
        if label in choices:
            return choices.index(label)
        if not label.strip():
            raise BadRow("its label is empty")
        raise BadRow(f"label {_short(label)} is none of its choices ({_listed(choices)})")
    if not isinstance(label, int):
        raise BadRow(f"label {_short(label)} is neither a whole number nor one of its choices")
    if not 0 <= label < len(choices):
        raise BadRow(f"label {label} is not among 0 to {len(choices) - 1}")
    return int(label)


def _listed(choices: Sequence[str]) -> str:
    shown = ", ".join(map(_short, choices[:4]))
    return f"{shown}, ..." if len(choices) > 4 else shown


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}...'"
