"""What version 0.1.0 wrote still opens: a corpus, a confirmed search, and half a search.

`tests/data/written-by-0.1.0.tar.gz` was written by that version's own commands: `corpus build` of
360 made-up documents, `search` and `confirm` of `old.yaml`, and `half.yaml` stopped after three
trials with a mixture in line.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from climb_opt import ClimbSampler, MixtureSpace, SimplexGPSampler, best_mixture, cli
from climb_opt.attributes import CORPUS, SLOT
from climb_opt.corpus.documents import ROW, row_of, split_keys
from climb_opt.corpus.stages.cluster import ClusterOptions
from climb_opt.corpus.stages.merge import MergeOptions
from climb_opt.proxy.data import MixtureIndex
from climb_opt.shards import Corpus
from climb_opt.study import open_study, read_recipe, status
from corpora import small_corpus, write_jsonl

PACK = Path(__file__).parent / "data" / "written-by-0.1.0.tar.gz"


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with tarfile.open(PACK) as pack:
        # The argument `filter` came with Python 3.11.4; without either, newer ones warn.
        pack.extraction_filter = lambda member, path: member
        pack.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("study.log").rename("runs/climb.journal")
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    return tmp_path


def test_its_corpus_loads_with_the_digest_it_had(released: Path) -> None:
    corpus = Corpus.load("corpora/old")
    assert set(corpus.tokens()) == {"flour-cream", "harbour-mast", "rain-bloom"}
    stored = open_study("old", create=False).user_attrs[CORPUS]
    assert corpus.digest == stored["digest"]


def test_its_recipe_is_the_same_recipe_still(released: Path) -> None:
    study = open_study("old.yaml", create=False)  # refused, if the stored one read differently
    assert read_recipe(study).rounds == (6, 4)


def test_a_finished_search_gives_the_mixture_it_gave(released: Path) -> None:
    study = open_study("old", create=False)
    best = best_mixture(study)
    assert best.mixture["harbour-mast"] == pytest.approx(0.972, abs=0.02)
    assert "4.20" in str(best)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("status old", "12 of 12 slots done"),
        ("best old", "found is not distinguishable from prior"),  # its confirmation, beside it
        ("export old --format huggingface", "harbour-mast"),
        ("export old --format megatron", "corpora/old/domain_002"),
        ("report old --output page.html", "page.html"),
    ],
)
def test_the_commands_that_look_at_it_still_do(
    released: Path, command: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command.split()) == 0
    assert shown in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_search_it_left_half_done_goes_on(released: Path) -> None:
    study = open_study("half", create=False)
    assert [t.state for t in study.trials].count(TrialState.COMPLETE) == 3
    assert cli.main(["search", "half"]) == 0
    finished = open_study("half", create=False)
    done = (TrialState.COMPLETE, TrialState.PRUNED)
    slots = {t.user_attrs[SLOT] for t in finished.trials if t.state in done}
    assert slots == {"baseline/prior", *range(6), "enqueued/mixture"}
    assert status(finished).finished == status(finished).size


def test_a_run_reads_the_sequences_in_the_order_that_it_did() -> None:
    sizes = np.array([5, 70, 3])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    sequences: Any = SimpleNamespace(
        domains=("d0", "d1", "d2"), sizes=sizes, offsets=offsets, share=1.0
    )
    index = MixtureIndex(sequences, {"d0": 0.5, "d1": 0.3, "d2": 0.2}, total=40, seed=7)
    assert index.ids(0, 20).tolist() == [
        3, 40, 75, 1, 23, 0, 4, 76, 12, 2, 1, 16, 77, 0, 61, 2, 4, 76, 51, 3,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "begun"),
    [
        (
            lambda space: ClimbSampler(space, rounds=(3, 2), predictor="linear", seed=0),
            [
                [0.6562, 0.3008],
                [0.9696, 0.008],
                [0.5922, 0.4078],
                [0.0003, 0.0011],
                [0.0009, 0.0002],
            ],
        ),
        (
            lambda space: SimplexGPSampler(space, seed=0),
            [[0.5, 0.3], [0.3333, 0.3333], [0.0011, 0.3508], [0.4584, 0.3576], [0.0386, 0.9614]],
        ),
    ],
)
def test_a_search_draws_the_mixtures_that_it_did(make: Any, begun: list[list[float]]) -> None:
    space = MixtureSpace({"web": 5, "code": 3, "math": 2})
    study = optuna.create_study(sampler=make(space))
    study.optimize(lambda trial: (space.suggest(trial)["code"] - 0.5) ** 2, n_trials=5)
    drawn = [[trial.params["w/web"], trial.params["w/code"]] for trial in study.trials]
    np.testing.assert_allclose(drawn, begun, atol=1e-4)


def test_the_same_documents_are_held_out() -> None:
    rows = np.array([row_of("a", b"one text"), row_of("b", b"another")], dtype=ROW)
    assert split_keys(rows, 3).tolist() == [13649538637039744240, 6180022692387688559]


def test_the_stages_of_a_build_are_called_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"{'abcdefgh'[i % 8]}{i % 7}" for i in range(40)]
    documents = [
        {"id": str(n), "text": " ".join(words[n % 20 :] + words[: n % 20]), "kind": "xy"[n % 2]}
        for n in range(20)
    ]
    file = write_jsonl(Path("in/a.jsonl"), documents)
    os.utime(file, ns=(1, 1))
    options = {"targets": ("t=kind:x",), "target_share": 0.5, "label_field": "kind"}
    cluster, merge = ClusterOptions(clusters=4, iterations=2), MergeOptions(domains=2)
    small_corpus(Path("out"), file, cluster=cluster, merge=merge, near_duplicates=None, **options)
    assert sorted(p.name for p in Path("out/work").iterdir() if p.is_dir()) == [
        "centroids-4423945fe41e", "clusters-25cfab47cb7c", "documents-cdce338d9f95",
        "domains-ecf153294471", "embeddings-a1974c36af2f", "encoder-97568ba8a128",
        "exact-884a01a3c100", "labels-ea2fd73ac2b3", "roles-a90f6a4c9769", "targets-d3dd09883598",
        "tokenizer-b6b835ceae6c", "tokens-1e9b76133da8",
    ]  # fmt: skip
