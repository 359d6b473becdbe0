"""lm-eval tasks on the in-memory proxy: stock tasks by name, and local multiple-choice files.

lm-eval's own task objects bring prompts, answers and metrics; requests are built and tried once a
search, and tokenised once, since for a tiny proxy that costs more than the model (0.22 of 0.33
CPU-seconds per 200 documents: docs/notes/running.md#lm-eval). Documents are dealt out to the ranks.

Beside lm-eval's metrics every multiple-choice and log-likelihood task gives `<task>/bpb`: bits per
UTF-8 byte of the right answer as lm-eval presents it (with its leading space). Accuracy moves in
steps of 1 / documents and sits at chance for small proxies; bits per byte do neither.

A proxy searched on a test set has seen it: components scored on a test split may be reported, but a
study's score may not name them unless `allow_test` says so.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from accelerate.utils import gather_object
from lm_eval import __version__ as lm_eval_version
from tokenizers import Tokenizer

from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError, brief, check_number, listed
from climb_opt.evaluators import right_answers
from climb_opt.evaluators.answers import (
    Answer,
    Asked,
    add_up,
    answer,
    check_valid,
    tokenise,
    try_out,
)
from climb_opt.evaluators.contamination import find_overlaps
from climb_opt.evaluators.documents import build_documents
from climb_opt.evaluators.file_task import read_rows
from climb_opt.evaluators.labels import text_of
from climb_opt.evaluators.language_model import ProxyLM
from climb_opt.evaluators.tasks import (
    LoadedTask,
    file_task,
    manager_of,
    stock_tasks,
    templates_compiled_once,
)
from climb_opt.metrics import scores_of
from climb_opt.shards import Corpus
from climb_opt.tokenizer import corpus_tokenizer

log = logging.getLogger(__name__)


class LMEval:
    """Scores of lm-eval tasks.

    Args:
        tasks: names: of `files`, else of stock tasks, groups or tags of lm-eval.
        split: the split of stock tasks that is scored.
        limit: score only the first documents of each task.
        shots: examples in the prompt of stock tasks, also of those that set their own number; None
            for each task's own. They are drawn as lm-eval draws them, with its seed.
        include_path: a folder of your own task files in lm-eval's YAML, beside the stock ones.
        files: task name -> a local file of rows {"query", "choices", "label"}; names that begin
            like a stock task (arc_easy, arc_challenge, piqa, hellaswag) use its prompt. A label is
            the right choice's place from 0, its letter, or its text; true or false, where the
            choices are true and false, or yes and no. ARC's rows are read as they are.
        prompts: task name of `files` -> another prompt, in which {{query}} stands for the question.
        allow_test: let a study's score name components measured on a test split.
        decontaminate: count, for every task, the rows that share 13 tokens in a row with the
            corpus's training shards; reads the whole corpus once.
        skip_bad_rows: leave out rows that cannot be scored (a label that names no choice, an empty
            answer, the same choice twice) and say how many, instead of refusing them.

    Components are "<task>/<metric>", with several filters "<task>/<metric>,<filter>". A group that
    says in its file how its tasks are weighed is weighed so; of other groups and of tags a metric
    is taken over all their documents.

    Raises:
        UserError: an unknown task (with near names), a row that cannot be scored, a split that the
            task does not have, a task that needs generated text, data that cannot be loaded.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        tasks: Sequence[str],
        split: Literal["validation", "test"] = "validation",
        limit: int | None = None,
        shots: int | None = None,
        include_path: str | None = None,
        files: Mapping[str, str] | None = None,
        prompts: Mapping[str, str] | None = None,
        allow_test: bool = False,
        decontaminate: bool = False,
        skip_bad_rows: bool = False,
    ) -> None:
        named, files = [tasks] if isinstance(tasks, str) else list(tasks), files or {}
        prompts = prompts or {}
        tasks = list(dict.fromkeys(named))
        if twice := [name for name in tasks if named.count(name) > 1]:
            log.warning("lm-eval: tasks names %s more than once; scored once.", listed(twice))
        if not tasks:
            raise UserError("lm-eval: tasks must name at least one task.")
        if split not in ("validation", "test"):
            raise UserError(f"lm-eval: split must be validation or test, but is {split!r}.")
        check_number("lm-eval: limit", limit)
        if shots is not None and (shots < 0 or not {*tasks} - {*files}):
            raise UserError(
                f"lm-eval: shots must be 0 or more examples of stock tasks, but is {shots}"
                f"{'' if shots < 0 else ', and all tasks are files'}."
            )
        if unused := sorted(({*files} | {*prompts}) - {*tasks}):
            raise UserError(f"lm-eval: a file or prompt is given for {unused[0]!r}, not a task.")
        self._allow_test = allow_test
        self._rows = {
            name: read_rows(Path(path), name, skip_bad=skip_bad_rows)
            for name, path in files.items()
        }
        stock = [name for name in tasks if name not in files]
        loaded = stock_tasks(stock, split, shots, include_path) if stock else {}
        for name, rows in self._rows.items():
            loaded[name] = file_task(name, rows, Path(files[name]), prompts.get(name))
        self._tasks = [loaded[name] for name in tasks]
        self._check_shared_rows()
        tokenizer = corpus_tokenizer(corpus.tokenizer_file, corpus.eos)
        self._lm = ProxyLM(tokenizer, corpus.eos)
        # The letters of a multiple choice come back in each row.
        tokens = functools.lru_cache(4096)(lambda text: len(self._lm.tok_encode(text)))
        self._documents = {
            task.name: build_documents(task, limit, tokens=tokens, skip_bad=skip_bad_rows)
            for task in self._tasks
        }
        self._components = {task.name: self._try(task) for task in self._tasks}
        self._ranks: tuple[int, int] | None = None
        self._mine: dict[str, list[Asked]] = {}
        self._facts = self._describe(corpus, tokenizer, decontaminate)
        for task in self._tasks:
            log.info("lm-eval: %s is scored on its %s split.", task.name, task.split)

    @staticmethod
    def foretold(
        recipe: CorpusRecipe,
        *,
        tasks: Sequence[str] = (),
        files: Mapping[str, str] | None = None,
        include_path: str | None = None,
        **_: Any,
    ) -> None:
        """See `Foretelling`; files, and tasks of one's own, may lie where trials run."""
        named = [tasks] if isinstance(tasks, str) else tasks
        for name in named:
            if include_path is None and name not in (files or {}):
                manager_of(name)

    def components(self) -> list[str]:
        """The names of the scores, without standard errors."""
        return [name for task in self._tasks for name in self._components[task.name]]

    def reported(self) -> list[str]:
        """Components measured on a test split: to report, not to search on."""
        tests = [t for t in self._tasks if t.split == "test" and not self._allow_test]
        return [name for task in tests for name in self._components[task.name]]

    def facts(self) -> dict[str, Any]:
        """What was scored on what: version, splits, documents, overlaps with the corpus."""
        return dict(self._facts)

    def evaluate(self, model: Any, accelerator: Any) -> dict[str, float]:
        """Every component and, for plain means, its standard error; the same on every rank.

        Raises:
            TrialFailed: the model's log-likelihood of an answer is not a number.
        """
        first = self._share_out(accelerator)
        self._lm.attach(model, accelerator)
        scores: dict[str, float] = {}
        with templates_compiled_once():
            for task in self._tasks:
                # A rank may hold no document of a small task, but all take part in the gathering.
                answers = gather_object(answer(task, self._mine[task.name], self._lm))
                answers.sort(key=lambda one: (one.part, one.number))
                check_valid(task, answers)
                if first:
                    self._say_what_did_not_fit(task, answers)
                scores.update(add_up(task, answers))
        self._lm.attach(None, None)
        return scores

    @functools.cached_property
    def _right_answers(self) -> right_answers.RightAnswers:
        return right_answers.RightAnswers(self._tasks, self._documents, self._lm)

    def token_shares(self) -> dict[str, np.ndarray]:
        """Of bits per byte of the right answers."""
        return self._right_answers.shares()

    def token_nats(self, model: Any, accelerator: Any) -> np.ndarray:
        """Nats of every token of the right answers."""
        return self._right_answers.nats(model, accelerator)

    def smooth(self) -> list[str]:
        """Bits per byte; accuracies and what an author's own code computes have no gradient."""
        named = {right_answers.bits_name(task): task.name for task in self._tasks}
        return [name for name, task in named.items() if name in self._components[task]]

    def terms(self, component: str, model: Any, accelerator: Any) -> Iterator[Any]:
        """See `Differentiable`."""
        task = next(task for task in self._tasks if right_answers.bits_name(task) == component)
        self._share_out(accelerator)
        self._lm.attach(model, accelerator)
        share = right_answers.shares(task, self._documents[task.name])
        yield from right_answers.terms(self._mine[task.name], self._lm, share)
        self._lm.attach(None, None)

    def tokens_read(self, component: str) -> int:
        """See `Differentiable`."""
        task = next(task for task in self._tasks if right_answers.bits_name(task) == component)
        return right_answers.tokens_read(tokenise(self._documents[task.name], self._lm))

    def _share_out(self, accelerator: Any) -> bool:
        """Give each rank its documents; whether they were not given out so before."""
        ranks = (int(accelerator.process_index), int(accelerator.num_processes))
        if self._ranks == ranks:
            return False
        rank, world = self._ranks = ranks
        self._mine = {n: tokenise(d[rank::world], self._lm) for n, d in self._documents.items()}
        return True

    def _say_what_did_not_fit(self, task: LoadedTask, answers: list[Answer]) -> None:
        pieces, cut = sum(a.pieces for a in answers), sum(a.cut for a in answers)
        for fact, count in (("long_answers", pieces), ("cut_questions", cut)):
            if count:
                self._facts.setdefault(fact, {})[task.name] = count
        if (pieces or cut) and self._lm.accelerator.is_main_process:
            log.warning(
                "lm-eval: the proxy reads %d tokens: of %d rows of %s %d have an answer longer "
                "than that, scored in pieces, and %d a question cut at its beginning.",
                *(self._lm.max_length, len(answers), task.name, pieces, cut),
            )

    # --- checks -----------------------------------------------------------------------------

    def _try(self, task: LoadedTask) -> list[str]:
        """The names of a task's components, found by scoring made-up answers."""
        try:
            scores = add_up(task, try_out(task, self._documents[task.name]))
        except Exception as error:  # a task is its author's code: anything
            raise UserError(
                f"lm-eval: task {task.name}: its metrics cannot be computed ({brief(error)})."
            ) from None
        return list(scores_of(scores))

    def _check_shared_rows(self) -> None:
        if self._allow_test:
            return
        seen: dict[tuple[str, tuple[str, ...]], str] = {}
        for task in sorted(self._tasks, key=lambda task: task.split != "test"):  # tests first
            for row in self._rows.get(task.name, ()):
                key = (row["query"], tuple(row["choices"]))
                if task.split == "test":
                    seen[key] = task.name
                elif key in seen:
                    raise UserError(
                        f"lm-eval: task {task.name!r} shares rows with the test set "
                        f"{seen[key]!r}, e.g. {row['query'][:60]!r}. Take them out, or set "
                        "allow_test: true."
                    )

    def _describe(
        self, corpus: Corpus, tokenizer: Tokenizer, decontaminate: bool
    ) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "lm_eval": lm_eval_version,
            "splits": {task.name: task.split for task in self._tasks},
            "documents": {name: len(documents) for name, documents in self._documents.items()},
        }
        if decontaminate:
            texts = {
                task.name: [text_of(task.parts[d.part], d.doc) for d in self._documents[task.name]]
                for task in self._tasks
            }
            facts["contaminated_rows"] = find_overlaps(corpus, tokenizer, texts)
            for name, count in facts["contaminated_rows"].items():
                log.warning(
                    "lm-eval: %d of %d rows of %s share 13 tokens with the training shards.",
                    *(count, len(texts[name]), name),
                )
        return facts
