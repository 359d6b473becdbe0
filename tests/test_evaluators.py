"""The lm-eval evaluator: real tasks on local files."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lm_eval")
import lm_eval
import torch
import torch.nn.functional as F
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer

from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError
from climb_opt.evaluators.base import Reporting, Stating
from climb_opt.evaluators.file_task import FileTask, read_rows, split_of
from climb_opt.evaluators.harness import LMEval
from climb_opt.evaluators.language_model import ProxyLM
from climb_opt.proxy import model as models
from climb_opt.shards import Corpus
from scoring import by_hand

ROWS = [
    {"id": "1", "query": "two plus", "choices": ["two", "a cat", "the mat"], "label": 0},
    {"id": "2", "query": "the cat sat", "choices": ["return x", "on a mat"], "label": 1},
    {"id": "3", "query": "def f(x):", "choices": ["return x", "two"], "label": 0},
    {
        "id": "4",
        "query": "a mat on",
        "choices": ["the cat", "x", "two plus two", "def"],
        "label": 0,
    },
    {"id": "5", "query": "plus two two", "choices": ["two", "a"], "label": 1},
]


@pytest.fixture
def rows_file(tmp_path: Path) -> Callable[..., str]:
    def write(rows: list[Any], name: str = "sums.validation.jsonl.gz") -> str:
        path = tmp_path / name
        text = "\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows)
        opened = gzip.open if name.endswith(".gz") else open
        with opened(path, "wt", encoding="utf-8") as file:
            file.write(text)
        return str(path)

    return write


def test_scores_equal_those_of_lm_eval_itself(
    tiny_corpus: Corpus,
    network: Any,
    accelerator: Any,
    rows_file: Callable[..., str],
    tmp_path: Path,
) -> None:
    path = rows_file(ROWS * 3)
    evaluator = LMEval(tiny_corpus, tasks=["arc_sums"], files={"arc_sums": path})
    scores = evaluator.evaluate(network, accelerator)
    models.save(network, tiny_corpus, tmp_path / "model")
    theirs = lm_eval.evaluate(
        HFLM(pretrained=str(tmp_path / "model"), device="cpu", batch_size=4),
        {"arc_sums": FileTask("arc_sums", evaluator._rows["arc_sums"])},
    )["results"]["arc_sums"]
    for metric in ("acc", "acc_norm"):
        assert scores[f"arc_sums/{metric}"] == pytest.approx(theirs[f"{metric},none"])
        stderr = theirs[f"{metric}_stderr,none"]
        assert scores[f"arc_sums/{metric}_stderr"] == pytest.approx(stderr)


def test_our_language_model_serves_lm_eval_directly(
    tiny_corpus: Corpus, network: Any, accelerator: Any, rows_file: Callable[..., str]
) -> None:
    evaluator = LMEval(tiny_corpus, tasks=["sums"], files={"sums": rows_file(ROWS)})
    ours = evaluator.evaluate(network, accelerator)
    lm = ProxyLM(Tokenizer.from_file(str(tiny_corpus.tokenizer_file)), tiny_corpus.eos)
    lm.attach(network, accelerator)
    theirs = lm_eval.evaluate(lm, {"sums": FileTask("sums", evaluator._rows["sums"])})
    assert theirs["results"]["sums"]["acc,none"] == pytest.approx(ours["sums/acc"])


def test_bits_per_byte_of_the_right_answer(
    tiny_corpus: Corpus, network: Any, accelerator: Any, rows_file: Callable[..., str]
) -> None:
    evaluator = LMEval(tiny_corpus, tasks=["piqa"], files={"piqa": rows_file(ROWS[:2])})
    assert evaluator.components() == ["piqa/acc", "piqa/acc_norm", "piqa/bpb"]
    scores = evaluator.evaluate(network, accelerator)
    tokenizer = Tokenizer.from_file(str(tiny_corpus.tokenizer_file))
    bits = []
    for row in ROWS[:2]:
        context = f"Question: {row['query']}\nAnswer:"
        answer = " " + row["choices"][row["label"]]  # type: ignore[index]
        ids = tokenizer.encode(context + answer).ids
        start = len(tokenizer.encode(context).ids)
        tokens = torch.tensor(ids[-33:])[None]
        with torch.no_grad():
            logits = network(input_ids=tokens[:, :-1]).logits[0]
        loss = F.cross_entropy(logits, tokens[0, 1:], reduction="none")
        bits.append(float(loss[start - len(ids) :].sum()) / math.log(2) / len(answer.encode()))
    assert scores["piqa/bpb"] == pytest.approx(np.mean(bits), rel=1e-5)
    assert scores["piqa/bpb_stderr"] == pytest.approx(np.std(bits, ddof=1) / math.sqrt(2), rel=1e-4)


def test_small_batches_and_shared_inputs_change_nothing(
    tiny_corpus: Corpus, network: Any, accelerator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = ProxyLM(Tokenizer.from_file(str(tiny_corpus.tokenizer_file)), tiny_corpus.eos)
    lm.attach(network, accelerator)
    rng = np.random.default_rng(0)
    requests = [
        (("", ""), rng.integers(1, 280, n).tolist(), rng.integers(1, 280, m).tolist())
        for n, m in [(5, 3), (30, 9), (2, 1), (60, 4), (1, 40), (7, 0)]
    ]
    requests += [(("", ""), requests[0][1], [t]) for t in (3, 4, 5)]  # one input, three answers
    together = lm._loglikelihood_tokens(requests)
    alone = [lm._loglikelihood_tokens([r])[0] for r in requests]
    monkeypatch.setattr("climb_opt.evaluators.language_model.BATCH_TOKENS", 40)
    small = lm._loglikelihood_tokens(requests)
    for a, b, c in zip(together, alone, small, strict=True):
        assert a[0] == pytest.approx(b[0], abs=1e-4) and c[0] == pytest.approx(b[0], abs=1e-4)
        assert a[1] == b[1] == c[1]
    assert together[5] == (0.0, False)


def test_a_text_is_scored_whole_in_windows(
    tiny_corpus: Corpus, network: Any, accelerator: Any
) -> None:
    lm = ProxyLM(Tokenizer.from_file(str(tiny_corpus.tokenizer_file)), tiny_corpus.eos)
    lm.attach(network, accelerator)
    texts = ["two plus two", "the cat sat on a mat " * 20]
    scores = lm.loglikelihood_rolling([type("R", (), {"args": (t,)})() for t in texts])
    ids = np.array(lm.tok_encode(texts[0]))
    assert scores[0] == pytest.approx(-by_hand(network, tiny_corpus, ids, 32), rel=1e-5)
    assert scores[1] < scores[0]
    with pytest.raises(UserError, match="asks the proxy to write text"):
        lm.generate_until([])


def test_limit_takes_the_first_documents_and_facts_say_so(
    tiny_corpus: Corpus, network: Any, accelerator: Any, rows_file: Callable[..., str]
) -> None:
    path = rows_file(ROWS)
    few = LMEval(tiny_corpus, tasks=["sums"], files={"sums": path}, limit=2)
    two = LMEval(tiny_corpus, tasks=["sums"], files={"sums": rows_file(ROWS[:2], "two.jsonl")})
    assert few.evaluate(network, accelerator) == two.evaluate(network, accelerator)
    assert isinstance(few, Reporting) and isinstance(few, Stating)
    assert few.facts()["documents"] == {"sums": 2}
    assert few.facts()["splits"] == {"sums": "validation"}
    assert two.facts()["splits"] == {"sums": "unstated"}


def test_a_prompt_of_ones_own(
    tiny_corpus: Corpus, network: Any, accelerator: Any, rows_file: Callable[..., str]
) -> None:
    path = rows_file(ROWS)
    plain = LMEval(tiny_corpus, tasks=["sums"], files={"sums": path})
    own = LMEval(tiny_corpus, tasks=["sums"], files={"sums": path}, prompts={"sums": "{{query}} ="})
    a, b = (e.evaluate(network, accelerator)["sums/bpb"] for e in (plain, own))
    assert a != b


def test_a_test_set_may_be_reported_but_not_searched_on(
    tiny_corpus: Corpus, rows_file: Callable[..., str]
) -> None:
    files = {
        "sums": rows_file(ROWS[:3], "sums.validation.jsonl"),
        "sums_test": rows_file(ROWS[3:], "sums.test.jsonl"),
    }
    evaluator = LMEval(tiny_corpus, tasks=[*files], files=files)
    assert evaluator.reported() == ["sums_test/acc", "sums_test/acc_norm", "sums_test/bpb"]
    told = LMEval(tiny_corpus, tasks=[*files], files=files, allow_test=True)
    assert told.reported() == []
    files["sums"] = rows_file(ROWS[:4], "sums.validation.jsonl")
    with pytest.raises(UserError, match=r"'sums' shares rows with the test set 'sums_test'"):
        LMEval(tiny_corpus, tasks=[*files], files=files)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("arc_easy.validation.jsonl.gz", "validation"),
        ("piqa-dev.jsonl", "validation"),
        ("test.jsonl", "test"),
        ("contest.jsonl", "unstated"),
        ("hellaswag.train.jsonl.gz", "train"),
    ],
)
def test_a_files_name_states_its_split(name: str, split: str) -> None:
    assert split_of(Path(name)) == split


def test_rows_that_the_corpus_gave_away_are_counted(
    tiny_corpus: Corpus, rows_file: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    tokens = np.asarray(tiny_corpus.read(tiny_corpus.domains[0].shards[0]))
    tokenizer = Tokenizer.from_file(str(tiny_corpus.tokenizer_file))
    starts = np.flatnonzero(tokens == tiny_corpus.eos)
    document = tokens[starts[4] + 1 : starts[5]].tolist()
    seen = tokenizer.decode(document)
    assert len(tokenizer.encode(seen).ids) >= 5
    long = " ".join([seen] * 4)
    rows = [
        {"query": long, "choices": ["two", "a"], "label": 0},
        {"query": "zebra quartz " * 6, "choices": ["vex", "a"], "label": 0},
    ]
    evaluator = LMEval(
        tiny_corpus, tasks=["sums"], files={"sums": rows_file(rows)}, decontaminate=True
    )
    ids = tokenizer.encode(f"{long} two").ids
    whole = tokens.tolist()
    really = any(
        whole[i : i + 13] == ids[j : j + 13]
        for j in range(len(ids) - 12)
        for i in np.flatnonzero(tokens == ids[j])
    )
    assert evaluator.facts()["contaminated_rows"] == {"sums": int(really)}
    assert f"{int(really)} of 2 rows of sums share 13 tokens" in caplog.text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "q", "choices": ["a", "b"]}, "line 2: 'label' is missing"),
        ({"query": "q", "choices": ["a", "b"], "label": 2}, "from 0 to 1, a .*, but is 2"),
        ({"query": "q", "choices": ["a", "b"], "label": "z"}, "from 0 to 1, a .*, but is 'z'"),
        ({"query": "q", "choices": ["a"], "label": 0}, "'choices' must be two or more texts"),
        ({"query": "q", "choices": ["a", " "], "label": 0}, "'choices' must be two or more"),
        ({"query": " ", "choices": ["a", "b"], "label": 0}, "'query' must be text"),
        ([1, 2], r"\[1, 2\] is not a JSON object"),
        ("{not json", "not JSON"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(
    tiny_corpus: Corpus, rows_file: Callable[..., str], row: Any, message: str
) -> None:
    path = rows_file([ROWS[0], row])
    with pytest.raises(UserError, match=f"sums.validation.jsonl.gz, line 2.*{message}|{message}"):
        LMEval(tiny_corpus, tasks=["sums"], files={"sums": path})


def test_files_that_are_missing_empty_or_not_text_are_refused(
    tiny_corpus: Corpus, rows_file: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "cut.jsonl.gz").write_bytes(b"no gzip")
    for path, message in [
        (str(tmp_path / "nothing.jsonl"), "no evaluation file"),
        (rows_file([], "empty.jsonl"), "holds no rows"),
        (str(tmp_path / "cut.jsonl.gz"), "is damaged or truncated"),
    ]:
        with pytest.raises(UserError, match=message):
            LMEval(tiny_corpus, tasks=["sums"], files={"sums": path})


def test_options_that_contradict_are_refused(
    tiny_corpus: Corpus, rows_file: Callable[..., str]
) -> None:
    path = rows_file(ROWS)
    for options, message in [
        ({"tasks": []}, "tasks must name at least one"),
        ({"tasks": ["sums"], "files": {"sums": path, "piqa": path}}, "given for 'piqa'"),
        ({"tasks": ["sums"], "files": {"sums": path}, "limit": 0}, "limit must be at least 1"),
        ({"tasks": ["sums"], "files": {"sums": path}, "split": "train"}, "split must be"),
    ]:
        with pytest.raises(UserError, match=message):
            LMEval(tiny_corpus, **options)  # type: ignore[arg-type]


def test_stock_tasks_are_found_by_name_and_need_their_data(tiny_corpus: Corpus) -> None:
    with pytest.raises(UserError, match=r"unknown task 'arc_esay'. Did you mean 'arc_easy'"):
        LMEval(tiny_corpus, tasks=["arc_esay"])
    with pytest.raises(UserError, match=r"task 'arc_easy' cannot be loaded.*files: \{arc_easy:"):
        LMEval(tiny_corpus, tasks=["arc_easy"])  # offline: the hub is out of reach


def test_an_unknown_stock_task_is_refused_before_a_corpus_is_built(tmp_path: Path) -> None:
    recipe = CorpusRecipe(inputs=("docs",))
    with pytest.raises(UserError, match=r"unknown task 'arc_esay'. Did you mean 'arc_easy'"):
        LMEval.foretold(recipe, tasks=["sums", "arc_esay"], files={"sums": "elsewhere.jsonl"})
    LMEval.foretold(recipe, tasks="of_mine", include_path=str(tmp_path / "elsewhere"))


TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{train: {folder}/train.json, validation: {folder}/valid.json}}}}
training_split: train
validation_split: validation
fewshot_split: train
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{answers}}}}"
doc_to_target: "{{{{right}}}}"
num_fewshot: 0
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""


def test_task_files_of_ones_own_with_groups_and_shots(
    tiny_corpus: Corpus, network: Any, accelerator: Any, tmp_path: Path
) -> None:
    row = {"question": "two plus", "answers": ["two", "a cat"], "right": 0}
    for part, count in (("train", 3), ("valid", 4)):
        (tmp_path / f"{part}.json").write_text("\n".join([json.dumps(row)] * count))
    for name in ("plus_a", "plus_b"):
        (tmp_path / f"{name}.yaml").write_text(TASK.format(name=name, folder=tmp_path))
    (tmp_path / "group.yaml").write_text("group: pluses\ntask: [plus_a, plus_b]\n")
    options: dict[str, Any] = {"tasks": ["pluses", "plus_a"], "include_path": str(tmp_path)}
    plain = LMEval(tiny_corpus, **options)
    assert plain.facts()["documents"] == {"pluses": 8, "plus_a": 4}
    scores = plain.evaluate(network, accelerator)
    assert set(plain.components()) <= set(scores)
    assert scores["pluses/bpb"] == pytest.approx(scores["plus_a/bpb"])
    shown = LMEval(tiny_corpus, **options, shots=2).evaluate(network, accelerator)
    assert shown["plus_a/bpb"] != scores["plus_a/bpb"]  # two examples stand before the question
    with pytest.raises(UserError, match="is not a folder of task files"):
        LMEval(tiny_corpus, tasks=["plus_a"], include_path=str(tmp_path / "nowhere"))


@pytest.mark.slow
def test_the_development_packs_tasks_are_scored(
    tiny_corpus: Corpus, network: Any, accelerator: Any, dev_pack: Path
) -> None:
    tasks = ["arc_easy", "piqa", "hellaswag"]
    files = {name: str(dev_pack / "eval" / f"{name}.validation.jsonl.gz") for name in tasks}
    evaluator = LMEval(tiny_corpus, tasks=tasks, files=files)
    assert evaluator.facts()["documents"] == {"arc_easy": 570, "piqa": 1838, "hellaswag": 500}
    scores = evaluator.evaluate(network, accelerator)
    for name in tasks:
        assert scores[f"{name}/acc_norm"] < 0.65  # untrained: chance
        assert scores[f"{name}/bpb"] > 3


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('[{"query": "a"}]', r"line 2: \[\{'query': 'a'\}\] is not a JSON object\..*jq -c"),
        ('{"query":', r"line 2: not JSON .*jq -c"),
        ('{"query": "\\ud800", "choices": ["a", "b"], "label": 0}', "line 2: .*half a character"),
        ('{"query": "q", "choices": {"text": ["a", "b"]}, "label": 0}', r"but is \{'text'"),
    ],
)
def test_a_row_that_is_no_row_is_named_shortly(tmp_path: Path, row: str, said: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(ROWS[0]) + "\n" + row + "\n")
    with pytest.raises(UserError, match=said):
        read_rows(file)
    file.write_text(json.dumps({**ROWS[0], "choices": "x" * 10_000}) + "\n")
    with pytest.raises(UserError) as error:
        read_rows(file)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("shots", [-1, 3])
def test_examples_that_no_task_would_show_are_refused(
    tiny_corpus: Corpus, rows_file: Callable[..., str], shots: int
) -> None:
    with pytest.raises(UserError, match=f"shots must be 0 or more .* but is {shots}"):
        LMEval(tiny_corpus, tasks=["s"], files={"s": rows_file(ROWS)}, shots=shots)


def test_a_task_that_is_named_twice_is_scored_once_and_said(
    tiny_corpus: Corpus, rows_file: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    files = {"sums": rows_file(ROWS)}
    once = LMEval(tiny_corpus, tasks=["sums"], files=files).components()
    assert "more than once" not in caplog.text
    assert LMEval(tiny_corpus, tasks=["sums", "sums"], files=files).components() == once
    assert "lm-eval: tasks names sums more than once; scored once." in caplog.text
