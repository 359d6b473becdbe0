"""What an export tells is what today's trainers ask: held against them where they are installed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from climb_opt.corpus.after.layouts import export
from climb_opt.exports import Handover, prepare, render
from climb_opt.shards import Corpus
from test_export_exact import corpus_of

MIXTURE = {"web": 0.6, "code": 0.25, "math": 0.15}
RUN: dict[str, Any] = {"tokens": 30_000, "sequence": 32}


def handover(**settings: Any) -> Handover:
    return prepare(MIXTURE, study="demo", **settings)


def shares(corpus: Corpus, tokens: np.ndarray) -> dict[str, float]:
    """Each domain's share of tokens, by the tokens that it alone has."""
    found = {}
    own = {d.name: corpus.read(d.shards[0]) for d in corpus.domains}
    for name, these in own.items():
        others = np.concatenate([o for other, o in own.items() if other != name])
        only = np.setdiff1d(these, others)
        found[name] = float(np.isin(tokens, only).mean() / np.isin(these, only).mean())
    return {name: share / sum(found.values()) for name, share in found.items()}


# --- LLM Foundry: what its loader needs, and how its streams are made ----------------------------


def test_llm_foundry_is_given_a_whole_loader(tiny_corpus: Corpus) -> None:
    loader = yaml.safe_load(render("mosaicml", handover(corpus=tiny_corpus, **RUN)))["train_loader"]
    assert set(loader) == {"name", "dataset", "drop_last", "num_workers"}


@pytest.mark.parametrize(("name", "needed"), [("mosaicml", 32), ("nanotron", 33)])
def test_a_domain_of_less_than_a_sequence_is_said_to_stop_them(
    name: str, needed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = corpus_of(tmp_path / "c", {"web": [90], "code": [needed - 20, 20], "math": [31]})
    render(name, handover(corpus=corpus, **RUN))
    assert (
        f"at a domain of fewer than {needed} tokens, a sequence: math (31 tokens)." in caplog.text
    )


def test_texts_come_with_a_tokenizer_that_makes_the_corpus_of_them(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    export(tiny_corpus, "jsonl", tmp_path / "data")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "data" / "tokenizer")
    assert tokenizer.eos_token_id == tiny_corpus.eos
    lines = (tmp_path / "data" / "domain_000.jsonl").read_text().splitlines()
    found = [tokenizer(json.loads(line)["text"])["input_ids"] for line in lines]
    tokens = tiny_corpus.read(tiny_corpus.domain("web").shards[0])
    assert np.array_equal(np.concatenate(found), tokens)
    spelt = tokenizer("<|endoftext|>")["input_ids"]  # a text that names the token holds its letters
    assert len(spelt) > 2 and spelt.index(tiny_corpus.eos) == len(spelt) - 1


@pytest.mark.filterwarnings("ignore")  # of packages that ask for older ones
def test_llm_foundry_converts_and_draws_the_mixture(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llmfoundry = pytest.importorskip("llmfoundry.command_utils", exc_type=ImportError)
    loaders = pytest.importorskip("llmfoundry.data.dataloader", exc_type=ImportError)
    transformers = pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    export(tiny_corpus, "jsonl", Path("data"))
    text = render("mosaicml", handover(corpus=tiny_corpus, **RUN))
    said = re.search(r"convert_dataset_json (.*)\.$", text, re.MULTILINE)
    assert said is not None
    words = shlex.split(said[1])
    options = dict(zip((w[2:].replace("-", "_") for w in words[::2]), words[1::2], strict=True))
    for index in ("000", "001", "002"):
        of_domain = {k: v.replace("domain_000", f"domain_{index}") for k, v in options.items()}
        of_domain["concat_tokens"] = int(of_domain["concat_tokens"])  # type: ignore[assignment]
        llmfoundry.convert_dataset_json(**of_domain, compression=None, split="train")
    tokenizer = transformers.AutoTokenizer.from_pretrained("data/tokenizer")
    tokenizer.pad_token = tokenizer.eos_token
    loader = yaml.safe_load(text)["train_loader"]
    loader |= {"num_workers": 0, "prefetch_factor": None, "persistent_workers": False}
    data = loaders.build_dataloader(loader, tokenizer, 8).dataloader
    tokens = np.concatenate([batch["input_ids"].numpy().ravel() for batch in data])
    assert len(tokens) == pytest.approx(RUN["tokens"], abs=8 * RUN["sequence"])
    assert shares(tiny_corpus, tokens) == pytest.approx(MIXTURE, abs=0.01)
    assert tiny_corpus.eos in tokens
