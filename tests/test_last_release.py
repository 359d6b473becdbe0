"""What version 0.1.0 wrote still opens: a corpus, a confirmed search, and half a search.

`tests/data/written-by-0.1.0.tar.gz` was written by that version's own commands: `corpus build` of
360 made-up documents, `search` and `confirm` of `old.yaml`, and `half.yaml` stopped after three
trials with a mixture in line.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from optuna.trial import TrialState

from climb_opt import best_mixture, cli
from climb_opt.attributes import CORPUS, SLOT
from climb_opt.shards import Corpus
from climb_opt.study import open_study, read_recipe, status

PACK = Path(__file__).parent / "data" / "written-by-0.1.0.tar.gz"


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with tarfile.open(PACK) as pack:
        pack.extractall(tmp_path, filter="data")
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
