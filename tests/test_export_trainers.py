"""What an export tells is what today's trainers ask: held against them where they are installed."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
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


# --- torchtitan: its main branch and its releases mix domains by other classes -------------------


@dataclass
class Interleaved:
    """The fields of the configs of torchtitan 0.3.0 that we give, of its loader or of a source."""

    sources: list[Interleaved] = field(default_factory=list)
    seed: int = 0
    dataset: str = ""
    weight: float = 1.0


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The data sets of a stand-in for torchtitan 0.3.0."""
    known: dict[str, Any] = {}
    texts = {
        "DATASETS": known,
        "HFDataSource": Interleaved,
        "InterleavedHuggingFaceTextDataLoader": SimpleNamespace(Config=Interleaved),
    }
    parts: dict[str, dict[str, Any]] = {
        "torchtitan": {},
        "torchtitan.components": {},
        "torchtitan.hf_datasets": {"DatasetConfig": lambda *args: args},
        "torchtitan.hf_datasets.text_datasets": texts,
    }
    monkeypatch.delitem(sys.modules, "torchtitan.components.data", raising=False)
    for name, holds in parts.items():
        module = ModuleType(name)
        vars(module).update(holds, __path__=[])
        monkeypatch.setitem(sys.modules, name, module)
    return known


def test_torchtitans_release_interleaves_the_domains(
    release: dict[str, Any], tiny_corpus: Corpus, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    export(tiny_corpus, "jsonl", tmp_path / "Data")
    template = str(tmp_path / "Data" / "domain_{index}.jsonl")
    module = tmp_path / "mixture_of_demo.py"
    module.write_text(render("torchtitan", handover(template=template)), encoding="utf-8")
    config = runpy.run_path(str(module))["dataloader"]()
    assert config.seed == 42
    assert [source.weight for source in config.sources] == [0.6, 0.25, 0.15]
    for source, start in zip(config.sources, ("web", "code", "math"), strict=True):
        # The release looks a data set up by its name in small letters.
        path, loader, text_of = release[source.dataset.lower()]
        first = text_of(next(iter(loader(path))))
        words = {"web": "cat", "code": "return", "math": "plus"}
        assert words[start] in first


def test_every_rank_of_torchtitans_release_has_a_document_of_a_domain_of_two(
    release: dict[str, Any], tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets", minversion="4.0")
    datasets.disable_progress_bars()
    two = json.dumps({"text": "one"}) + "\n" + json.dumps({"text": "two"}) + "\n"
    for name in MIXTURE:
        (tmp_path / f"{name}.jsonl").write_text(two)
    module = tmp_path / "mixture_of_demo.py"
    module.write_text(render("torchtitan", handover(template=str(tmp_path / "{domain}.jsonl"))))
    runpy.run_path(str(module))["dataloader"]()
    path, loader, _ = next(iter(release.values()))
    # As torchtitan does; its rank without a document looks for one without end.
    split = pytest.importorskip("datasets.distributed").split_dataset_by_node
    found = [next(iter(split(loader(path), rank=rank, world_size=4)), None) for rank in range(4)]
    assert [row and row["text"] for row in found] == ["one", "two", "one", "two"]


@pytest.mark.filterwarnings("ignore")  # of a module of torch that it asks for
def test_torchtitan_draws_the_mixture(tiny_corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("torchtitan")
    pytest.importorskip("datasets").disable_progress_bars()
    tokenizers = pytest.importorskip("torchtitan.components.tokenizer")
    export(tiny_corpus, "jsonl", tmp_path / "data")
    template = str(tmp_path / "data" / "domain_{index}.jsonl")
    module = tmp_path / "mixture_of_demo.py"
    module.write_text(render("torchtitan", handover(template=template)), encoding="utf-8")
    config = runpy.run_path(str(module))["dataloader"]()
    tokenizer = tokenizers.HuggingFaceTokenizer.Config().build(
        tokenizer_path=str(tmp_path / "data" / "tokenizer")
    )
    assert tokenizer.eos_id == tiny_corpus.eos
    loader = config.build(
        dp_world_size=1, dp_rank=0, tokenizer=tokenizer, seq_len=32, local_batch_size=8
    )
    batches = [batch for batch, _ in zip(loader, range(80), strict=False)]
    tokens = np.concatenate([inputs["input"].numpy().ravel() for inputs, _ in batches])
    found = shares(tiny_corpus, tokens)
    assert found == pytest.approx(MIXTURE, abs=0.05)


# --- Megatron and NeMo: a split of one's own ----------------------------------------------------


def test_megatron_is_told_to_train_on_all_of_each_domain(
    tiny_corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    render("megatron", handover(corpus=tiny_corpus, **RUN))
    assert "Give --split 1,0,0 and --eval-iters 0, or the blend as --train-data-path" in caplog.text
    caplog.clear()
    text = render("nemo", handover(corpus=tiny_corpus, **RUN))
    assert yaml.safe_load(text)["data"]["split"] == "1,0,0"
    assert "limit_val_batches to 0" in text and "limit_val_batches to 0" in caplog.text


def test_megatron_core_draws_the_mixture_with_that_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    builders = pytest.importorskip("megatron.core.datasets.blended_megatron_dataset_builder")
    gpt = pytest.importorskip("megatron.core.datasets.gpt_dataset")
    utils = pytest.importorskip("megatron.core.datasets.utils")
    monkeypatch.setenv("RANK", "0")
    # Of math, with its one document, Megatron's own split has none to validate with, and hangs.
    lengths = {"web": [90] * 300, "code": [70] * 60, "math": [20]}
    corpus = corpus_of(tmp_path / "c", lengths)
    order = handover(corpus=corpus, **RUN)
    text = render("megatron", order)
    split = re.search(r"--split (\S+)", caplog.text)
    assert split is not None
    config = gpt.GPTDatasetConfig(
        random_seed=1,
        sequence_length=order.sequence,
        blend=utils.get_blend_from_list(text.split()),
        split=split[1],
        path_to_cache=str(tmp_path / "cache"),
        tokenizer=SimpleNamespace(vocab_size=600, eod=0, pad=599, unique_identifiers={}),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )
    sizes = (order.sequences, 0, 0)
    train, *rest = builders.BlendedMegatronDatasetBuilder(
        gpt.GPTDataset, sizes, lambda: True, config
    ).build()
    assert rest == [None, None]
    tokens = np.concatenate([train[i]["tokens"].numpy() for i in range(order.sequences or 0)])
    counts = np.bincount(tokens[tokens > 0], minlength=4)[1:]
    found = counts * np.array([90 / 89, 70 / 69, 20 / 19])  # with the ends of documents
    assert found / found.sum() == pytest.approx(list(MIXTURE.values()), abs=0.005)


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


def test_nanotron_finds_one_tokenizer_of_the_vocabulary_it_is_told(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    export(tiny_corpus, "nanotron", tmp_path / "data")
    found = yaml.safe_load(render("nanotron", handover(corpus=tiny_corpus, **RUN)))
    # Each of these nanotron's main asserts: in its config, and before it reads data.
    place = found["tokenizer"]["tokenizer_name_or_path"]
    dataset = found["data_stages"][0]["data"]["dataset"]
    assert place == dataset["tokenizer_name"] == "data/tokenizer"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / place)
    assert len(tokenizer) == dataset["vocab_size"] and tokenizer.eos_token is not None


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


def test_an_end_that_the_tokenizer_does_not_know_is_named_nowhere(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    export(replace(tiny_corpus, eos=60_000), "nanotron", tmp_path / "data")
    facts = json.loads((tmp_path / "data" / "tokenizer" / "tokenizer_config.json").read_text())
    assert facts["eos_token"] is None


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
