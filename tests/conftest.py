"""Fixtures shared by the tests: a corpus in twenty lines, and where the real data lies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before the first import that starts threads: on a busy machine two spinning threads are fifty
# times slower than one (docs/notes/running.md#numbers). And nothing that a test may read lies on a
# hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from climb_opt.shards import Corpus, Domain, Stream

if TYPE_CHECKING:
    from searching import Formula

# A busy machine is no fault of what is tested.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storages that are away are not waited for."""
    monkeypatch.setattr("climb_opt.storages.outages.PATIENCE", 0.0)


@pytest.fixture(scope="session")
def dev_pack() -> Path:
    """Real text and evaluation sets; absent outside the developers' machines."""
    if not (SHARED / "dev" / "corpus.jsonl.zst").is_file():
        pytest.skip(f"no development pack at {SHARED / 'dev'}")
    return SHARED / "dev"


@pytest.fixture(scope="session")
def tables() -> Path:
    """Published tables of real proxy runs; absent outside the developers' machines."""
    if not (SHARED / "tables").is_dir():
        pytest.skip(f"no tables at {SHARED / 'tables'}")
    return SHARED / "tables"


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Three domains of made-up words (sizes 4:2:1) and a target that is like the smallest."""
    return write_tiny_corpus(tmp_path_factory.mktemp("tiny-corpus"))


@pytest.fixture(scope="session")
def accelerator() -> Any:
    """What a proxy runs on, here one CPU."""
    from climb_opt.proxy.group import ProxyGroup

    return ProxyGroup("fp32").accelerator


@pytest.fixture(scope="module")
def network(tiny_corpus: Corpus) -> Any:
    """A proxy for the tiny corpus, as it is before training."""
    from climb_opt.proxy import model
    from climb_opt.recipes import ModelRecipe

    recipe = ModelRecipe(hidden=32, layers=2, heads=4)
    return model.build(recipe, model.configure(recipe, tiny_corpus, 32), seed=1).eval()


@pytest.fixture
def home(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Formula]:
    """An empty folder with a recipe `mine.yaml`, and a stand-in for proxies."""
    from searching import arrange

    return arrange(tiny_corpus, tmp_path, monkeypatch)


def write_tiny_corpus(path: Path, tokens: int = 20_000) -> Corpus:
    words = {"web": "the cat sat on a mat", "code": "def f(x): return x", "math": "two plus two"}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        words.values(),
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.save(str(path / "tokenizer.json"))
    rng = np.random.default_rng(0)
    counter = 0

    def stream(text: str, size: int, name: str) -> Stream:
        nonlocal counter
        ids: list[int] = []
        written = documents = 0
        while len(ids) < size:
            document = " ".join(rng.permutation(text.split()))
            ids += [*tokenizer.encode(document).ids, 0]
            written += len(document.encode())
            documents += 1
        array = np.array(ids, dtype="<u2")
        array.tofile(path / name)
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        return Stream(name, len(array), documents, written, digest)

    domains = []
    for index, (name, share) in enumerate([("web", 4), ("code", 2), ("math", 1)]):
        shard = stream(words[name], share * tokens // 7, f"domain_{index:03d}.bin")
        heldout = stream(words[name], 2_000, f"domain_{index:03d}.heldout.bin")
        domains.append(Domain(name, (shard,), heldout))
    target = stream(words["math"], 2_000, "target_sums.bin")
    vocab = tokenizer.get_vocab_size()
    corpus = Corpus(path, "tiny", tuple(domains), {"sums": target}, "uint16", vocab, 0)
    corpus.save()
    return Corpus.load(path)


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    """Documents of four topics in three files."""
    from corpora import topic_files

    return topic_files(tmp_path / "in")
