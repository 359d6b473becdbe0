"""A tokenizer gives a text's own tokens, whatever state its file was saved in."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from climb_opt.corpus.after.show import summary
from climb_opt.corpus.stages.bpe import train_tokenizer
from climb_opt.corpus.stages.tokenise import TokenOptions
from climb_opt.errors import UserError
from climb_opt.shards import Corpus
from climb_opt.tokenizer import corpus_tokenizer, end_of_text, load_tokenizer
from corpora import files_of, small_corpus, topic_documents, write_jsonl

TEXTS = ["the orbit of a planet", "soil and mulch </s> in a <|endoftext|> garden", "[SEP] oath"]


def plain_tokenizer() -> Any:
    tokenizer = train_tokenizer([d["text"] for d in topic_documents(20)], 400)
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


def with_state(tokenizer: Any) -> Any:
    """The same tokenizer as a program that trains on short, padded, noisy sequences leaves it."""
    made = Tokenizer.from_str(tokenizer.to_str())
    made.enable_truncation(6)
    made.add_special_tokens(["<s>"])
    made.enable_padding(length=12, pad_token="<s>", pad_id=made.token_to_id("<s>"))
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A <s>", special_tokens=[("<s>", made.token_to_id("<s>"))]
    )
    made.model.dropout = 0.5
    return made


def saved(tokenizer: Any, folder: Path, **declarations: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, data in declarations.items():
        (folder / f"{name}.json").write_text(json.dumps(data))
    return folder


def test_the_state_of_the_file_changes_no_corpus(tmp_path: Path) -> None:
    documents = topic_documents(30)
    for document, text in zip(documents, TEXTS, strict=False):
        document["text"] += text
    file = write_jsonl(tmp_path / "documents.jsonl", documents)
    plain = plain_tokenizer()
    made = []
    for kind, tokenizer in (("plain", plain), ("state", with_state(plain))):
        folder = saved(tokenizer, tmp_path / kind, tokenizer_config={"eos_token": "</s>"})
        tokens = TokenOptions(str(folder))
        made.append(small_corpus(tmp_path / f"c-{kind}", file, tokens=tokens))
    assert made[0].digest == made[1].digest
    first, second = (files_of(c.path) for c in made)
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"manifest.json"}  # it names the folder of the tokenizer
    ended = sum(
        int(np.count_nonzero(np.asarray(c.read(s)) == c.eos)) for c in made for s in c.streams()
    )
    assert ended == sum(s.documents for c in made for s in c.streams())


@pytest.fixture
def left_in_a_state(tiny_corpus: Corpus, tmp_path: Path) -> Corpus:
    """A corpus whose tokenizer.json was saved with everything on, as earlier versions kept it."""
    folder = tmp_path / "corpus"
    shutil.copytree(tiny_corpus.path, folder)
    tokenizer = Tokenizer.from_file(str(tiny_corpus.tokenizer_file))
    with_state(tokenizer).save(str(folder / "tokenizer.json"))
    return Corpus.load(folder)


def test_scores_and_saved_proxies_do_not_depend_on_the_state(
    tiny_corpus: Corpus, left_in_a_state: Corpus, network: Any, accelerator: Any, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    from climb_opt.evaluators.heldout import HeldOutLoss
    from climb_opt.evaluators.language_model import ProxyLM
    from climb_opt.proxy import model as proxies

    corpora = (tiny_corpus, left_in_a_state)
    scores = [HeldOutLoss(c, domains=True).evaluate(network, accelerator) for c in corpora]
    assert scores[0] == scores[1]
    read = [corpus_tokenizer(c.tokenizer_file, c.eos) for c in corpora]
    proxies.save(network, left_in_a_state, tmp_path / "model")
    opened = AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in TEXTS:
        expected = ProxyLM(read[0], 0).tok_encode(text)
        assert 0 not in expected and read[0].decode(expected) == text
        assert ProxyLM(read[1], 0).tok_encode(text) == expected
        assert opened(text)["input_ids"] == expected
        assert opened(text, add_special_tokens=False)["input_ids"] == expected


def test_rows_shared_with_a_corpus_are_found_whatever_the_state(tmp_path: Path) -> None:
    from climb_opt.evaluators.contamination import find_overlaps

    documents = topic_documents(30)
    rows = {"seen": [d["text"] for d in documents], "new": ["a row that no document holds " * 9]}
    file = write_jsonl(tmp_path / "documents.jsonl", documents)
    corpus = small_corpus(tmp_path / "out", file)
    with_state(Tokenizer.from_file(str(corpus.tokenizer_file))).save(str(tmp_path / "t.json"))
    counts = [
        find_overlaps(corpus, corpus_tokenizer(path, corpus.eos), rows)
        for path in (corpus.tokenizer_file, tmp_path / "t.json")
    ]
    trained = sum(s.documents for d in corpus.domains for s in d.shards)
    assert counts[0] == counts[1] and counts[0]["seen"] >= trained and counts[0]["new"] == 0


def test_unigram_sampling_and_normalisers(tmp_path: Path) -> None:
    model = models.Unigram([("<unk>", 0.0), ("a", -1.0), ("aa", -1.2), ("</s>", -9.0)], 0, False)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Lowercase()
    file = saved(tokenizer, tmp_path / "unigram") / "tokenizer.json"
    data = json.loads(file.read_text())
    data["model"] |= {"alpha": 0.1, "nbest_size": 8}
    file.write_text(json.dumps(data))
    loaded = load_tokenizer(str(file))
    assert {tuple(loaded.encode("AaaA").ids) for _ in range(50)} == {(2, 2)}


def test_a_token_that_ends_documents_is_spelt_by_no_text(tmp_path: Path) -> None:
    """Not even where the file does not call it special."""
    tokenizer = Tokenizer.from_str(train_tokenizer(["a b </s>"] * 9, 300).to_str())
    tokenizer.add_tokens([AddedToken("<stop>", special=False)])
    assert tokenizer.token_to_id("<stop>") in tokenizer.encode("a <stop> b").ids
    file = saved(tokenizer, tmp_path) / "tokenizer.json"
    ended = corpus_tokenizer(file, tokenizer.token_to_id("<stop>"))
    ids = ended.encode("a <stop> b").ids
    assert ended.token_to_id("<stop>") not in ids and ended.decode(ids) == "a <stop> b"
    assert ended.decode([*ids, ended.token_to_id("<stop>")]) == "a <stop> b"


NAMES = ["<unk>", "</s>", "<|end_of_text|>", "[EOS]", "[SEP]"]


def many_ends() -> Any:
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(NAMES)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(NAMES)
    return tokenizer


@pytest.mark.parametrize(
    ("declared", "token", "why"),
    [
        ({"tokenizer_config": {"eos_token": "[EOS]"}}, "[EOS]", "tokenizer_config.json"),
        ({"tokenizer_config": {"eos_token": {"content": "[SEP]"}}}, "[SEP]", "tokenizer_config"),
        ({"special_tokens_map": {"eos_token": "[EOS]"}}, "[EOS]", "special_tokens_map.json"),
        ({"generation_config": {"eos_token_id": [2, 3]}}, "<|end_of_text|>", "generation_config"),
        ({"config": {"eos_token_id": 3}}, "[EOS]", "eos_token_id of config.json"),
        (
            {"tokenizer_config": {"eos_token": None}, "config": {"eos_token_id": 4}},
            "[SEP]",
            "config.json",
        ),
        (
            {"tokenizer_config": {"eos_token": "<end>"}, "config": {"eos_token_id": 3}},
            "[EOS]",
            "'<end>', is not one of its tokens",
        ),
        ({"config": {"eos_token_id": 99}}, "</s>", "'number 99', is not one of its tokens"),
        ({}, "</s>", "nothing beside the tokenizer tells"),
    ],
)
def test_the_files_beside_a_tokenizer_say_what_ends_a_document(
    declared: dict[str, Any], token: str, why: str, tmp_path: Path
) -> None:
    folder = saved(many_ends(), tmp_path, **declared)
    for path in (folder, folder / "tokenizer.json"):
        end = end_of_text(load_tokenizer(str(path)), str(path))
        assert (end.token, end.number) == (token, NAMES.index(token))
        assert why in str(end) and end.sure == ("nothing beside" not in end.reason)
        named = end_of_text(load_tokenizer(str(path)), str(path), "[SEP]")
        assert named.token == "[SEP]" and "--eos" in named.reason


def test_a_tokenizer_with_one_known_end_leaves_no_doubt() -> None:
    assert end_of_text(plain_tokenizer_of(["</s>"])).sure
    assert not end_of_text(plain_tokenizer_of(["</s>", "<eos>"])).sure


def plain_tokenizer_of(names: list[str]) -> Any:
    return Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token=names[0]))


def test_a_name_on_the_hub_brings_its_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def download(name: str, file: str) -> str:
        if file != "special_tokens_map.json":
            raise huggingface_hub.errors.LocalEntryNotFoundError(f"no {file} of {name}")
        return str(folder / file)

    folder = saved(many_ends(), tmp_path, special_tokens_map={"eos_token": "[EOS]"})
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert end_of_text(many_ends(), "somebody/something").token == "[EOS]"


@pytest.mark.parametrize("text", ["{", "\x00", ""])
def test_a_damaged_file_beside_a_tokenizer_is_named(text: str, tmp_path: Path) -> None:
    folder = saved(many_ends(), tmp_path)
    (folder / "tokenizer_config.json").write_text(text)
    with pytest.raises(UserError, match=r"tokenizer_config.json.*mend or delete it.*--eos"):
        end_of_text(many_ends(), str(folder))
    assert end_of_text(many_ends(), str(folder), "[SEP]").token == "[SEP]"


def test_a_corpus_says_which_token_ends_its_documents(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_jsonl(tmp_path / "documents.jsonl", topic_documents(30))
    folder = saved(plain_tokenizer(), tmp_path / "t", tokenizer_config={"eos_token": "</s>"})
    with caplog.at_level("INFO"):
        corpus = small_corpus(tmp_path / "out", file, tokens=TokenOptions(str(folder)))
    line = f"a document ends with '</s>' (token {corpus.eos}): eos_token of tokenizer_config.json"
    assert line in summary(corpus) and line in caplog.text
    shards = [np.asarray(corpus.read(s)) for s in corpus.streams()]
    assert all(s[-1] == corpus.eos for s in shards)
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<s>"}')
    again = small_corpus(tmp_path / "other", file, tokens=TokenOptions(str(folder)))
    assert again.eos != corpus.eos and again.digest != corpus.digest


def test_a_corpus_is_known_by_its_tokenizer_too(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "documents.jsonl", topic_documents(30))
    corpus = small_corpus(tmp_path / "out", file)
    earlier = replace(corpus, tokenizer=None)  # as version 0.1.0 would have written it
    other = replace(corpus, tokenizer="0" * 64)
    assert len({corpus.digest, earlier.digest, other.digest}) == 3
    assert corpus.is_known_as(corpus.digest) and corpus.is_known_as(earlier.digest)
    assert not corpus.is_known_as(other.digest) and not corpus.is_known_as(None)
    assert not earlier.is_known_as(corpus.digest)
    text = corpus.tokenizer_file.read_text()
    corpus.tokenizer_file.write_text(text + "\n")
    with pytest.raises(UserError, match=r"tokenizer.json is not the one its tokens were made with"):
        Corpus.load(corpus.path)
    corpus.tokenizer_file.unlink()
    with pytest.raises(UserError, match=r"tokenizer.json is missing"):
        Corpus.load(corpus.path)
