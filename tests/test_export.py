"""Every export is read back: by its real reader where it is installed, else by its schema."""

from __future__ import annotations

import json
import runpy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml

from climb_opt.errors import UserError
from climb_opt.exports import Handover, prepare, render, texts
from climb_opt.exports.formats import format_of, losses, render_phases
from climb_opt.exports.materialise import Kind, materialise
from climb_opt.exports.prepared import slug
from climb_opt.schedules import Phase
from climb_opt.shards import Corpus, Domain, Stream
from synthetic_study import ODD_NAMES

MIXTURE = {"web": 0.25, "code": 0.6, "math": 0.15, "unused": 0.0}
ODD = dict(zip(ODD_NAMES, np.full(len(ODD_NAMES), 1 / len(ODD_NAMES)).tolist(), strict=True))


@dataclass
class Nanoset:
    """The fields of nanotron's `NanosetDatasetsArgs` (its main branch) that we write."""

    dataset_folder: list[str]
    dataset_weights: list[float]
    tokenizer_name: str | None = None
    token_size_in_bytes: int | None = None
    vocab_size: int | None = None

    def __post_init__(self) -> None:
        assert len(self.dataset_folder) == len(self.dataset_weights)


def handover(mixture: Mapping[str, float] = MIXTURE, **settings: Any) -> Handover:
    return prepare(mixture, study="demo", rule="posterior-mean", **settings)


def read_back(name: str, text: str) -> list[float]:
    """The weights a reader finds in an export, in its order."""
    if name == "json":
        return list(json.loads(text)["mixture"].values())
    if name == "megatron":
        # Megatron-LM: open(path).read().split(), then get_blend_from_list.
        return [float(w) for w in text.split()[::2]]
    if name in ("huggingface", "torchtitan"):
        body = text[text.index("SOURCES = {") : text.index("\n}\n") + 2]
        found: dict[str, Any] = {}
        exec(body, found)
        return [weight for weight, _ in found["SOURCES"].values()]
    data = yaml.safe_load(text)
    if name == "yaml":
        return list(data.values())
    if name == "nemo":
        return [float(w) for w in data["data"]["paths"][::2]]
    if name == "nanotron":
        return Nanoset(**data["data_stages"][0]["data"]["dataset"]).dataset_weights
    if name == "olmo-core":
        return [s["target_ratio"] for s in data["sources"]]
    assert name == "mosaicml"
    return [s["proportion"] for s in data["train_loader"]["dataset"]["streams"].values()]


@pytest.mark.parametrize("name", texts())
def test_a_format_keeps_the_weights_and_drops_what_weighs_nothing(name: str) -> None:
    assert read_back(name, render(name, handover())) == [0.6, 0.25, 0.15]


@pytest.mark.parametrize("name", texts())
def test_a_format_knows_its_texts_from_others(name: str) -> None:
    chosen, odd = format_of(name), {"a: b": 0.5, "# c": 0.499999, "d" * 200: 1e-6}
    phases = (Phase(0.8, {"web": 1.0}), Phase(0.2, {"code": 1.0}))
    run: dict[str, Any] = {"tokens": 10**9, "batch": 8}
    earlier = [render(name, handover(odd)), render(name, prepare(MIXTURE, study="s", as_good="x"))]
    earlier += render_phases(name, prepare(phases, study="s", **run))
    assert all(chosen.replaces(text, "") for text in earlier)
    others = [render(other, handover()) for other in texts() if other != name]
    others += ["web: 0.5\ncode: 0.5\n", '{"mine": 1}', '"""Mine."""\n', "1 2 3\n"]
    assert not any(chosen.replaces(text, render(name, handover())) for text in others)


def test_the_head_says_where_the_mixture_comes_from_and_for_how_many_tokens() -> None:
    said = "Mixture of study demo, rule posterior-mean, for 1000 tokens"
    assert handover(tokens=1000).head == [said]
    assert prepare(MIXTURE, study="demo").head == ["Mixture of study demo"]


def test_twelve_names_are_listed_and_of_more_their_number_is_said() -> None:
    for count, end in ((12, ", d11."), (13, ", d11 and 1 more.")):
        absent = tuple(f"d{index}" for index in range(count))
        assert losses(Handover("demo", (), absent=absent))[0].endswith(end)


@pytest.mark.parametrize("name", texts())
def test_odd_names_survive_every_format(name: str) -> None:
    text = render(name, handover(ODD))
    assert read_back(name, text) == pytest.approx([0.1] * 10)
    if name.endswith("python") or name in ("huggingface", "torchtitan"):
        compile(text, name, "exec")
    if name in ("json", "yaml"):
        data = json.loads(text)["mixture"] if name == "json" else yaml.safe_load(text)
        assert set(data) == set(ODD)
    if name == "json":
        assert json.loads(text)["rule"] == "posterior-mean"


def test_weights_are_millionths_that_sum_to_exactly_one() -> None:
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(240, 0.2))
    sources = handover({f"d{k}": float(w) for k, w in enumerate(weights)}).sources
    assert sum(s.units for s in sources) == 1_000_000
    assert all(abs(s.weight - weights[int(s.name[1:])]) <= 1e-6 for s in sources)


def test_shards_of_the_corpus_are_named(tiny_corpus: Corpus) -> None:
    mixture = {"web": 0.5, "code": 0.5, "math": 0.0}
    text = render("megatron", handover(mixture, corpus=tiny_corpus))
    prefixes = text.split()[1::2]
    assert all(Path(f"{prefix}.bin").is_file() for prefix in prefixes)


def test_exports_ask_of_a_corpus_its_place_its_kind_of_tokens_and_domains_by_name() -> None:
    class Stand:
        path, dtype, vocab_size = Path("/data"), "uint16", 1000
        tokens = 7  # a number of its own, no method

        def domain(self, name: str) -> Domain:
            return Domain(name, (Stream(f"{name}.bin", 8192, 1, 1, ""),))

    given = prepare({"web": 0.5, "code": 0.5}, study="s", corpus=cast("Corpus", Stand()))
    assert [s.files for s in given.sources] == [
        (("/data/code.bin", 8192),),
        (("/data/web.bin", 8192),),
    ]
    assert "/data/web.bin" in render("olmo-core", given)


def test_olmo_core_states_the_repetition_it_needs(tiny_corpus: Corpus) -> None:
    mixture = {"web": 0.1, "code": 0.1, "math": 0.8}
    text = render("olmo-core", handover(mixture, corpus=tiny_corpus, tokens=20_000))
    by_name = {s["source_name"]: s for s in yaml.safe_load(text)["sources"]}
    needed = 0.8 * 20_000 / tiny_corpus.domain("math").tokens
    assert needed <= by_name["math"]["max_repetition_ratio"] <= needed * 1.02
    assert "max_repetition_ratio" not in by_name["web"]


def test_hugging_face_code_runs_on_real_files(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    for name in ("web", "code", "math"):
        lines = [json.dumps({"text": f"{name} {i}", "id": i}) for i in range(40)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    mixture = {"web": 0.25, "code": 0.6, "math": 0.15}
    text = render("huggingface", handover(mixture, template=str(tmp_path / "{domain}.jsonl")))
    module = tmp_path / "mixture_of_demo.py"
    module.write_text(text, encoding="utf-8")
    stream = runpy.run_path(str(module))["mixture"](seed=1)
    drawn = [row["text"].split()[0] for row, _ in zip(stream, range(60), strict=False)]
    assert drawn.count("code") > drawn.count("web") > 0


def test_megatron_core_reads_the_blend() -> None:
    utils = pytest.importorskip("megatron.core.datasets.utils")
    text = render("megatron", handover(template="data/{domain}_text_document"))
    prefixes, weights = utils.get_blend_from_list(text.split())
    assert prefixes == [f"data/{d}_text_document" for d in ("code", "web", "math")]
    assert weights == [0.6, 0.25, 0.15]


def test_olmo_core_builds_the_mixture_from_our_shards(tiny_corpus: Corpus) -> None:
    mixing = pytest.importorskip("olmo_core.data.source_mixture")
    mixture = {"web": 0.3, "code": 0.3, "math": 0.4}
    text = render("olmo-core", handover(mixture, corpus=tiny_corpus, tokens=12_800))
    listed = mixing.SourceMixtureList.from_dict(yaml.safe_load(text))
    listed.validate()
    config = mixing.SourceMixtureDatasetConfig(
        source_list=listed, requested_tokens=12_800, global_batch_size=640, render_tables=False
    )
    built = config.build(npdtype=np.uint16, sequence_length=64)
    taken = {s.name: sum(p.tokens for p in s.path_tokens) for s in built.sources}
    total = sum(taken.values())
    for name, weight in mixture.items():
        assert taken[name] / total == pytest.approx(weight, abs=0.02)


def test_mosaicml_reads_the_streams(tmp_path: Path) -> None:
    streaming = pytest.importorskip("streaming")
    text = render("mosaicml", handover(template=str(tmp_path / "{domain}")))
    streams = yaml.safe_load(text)["train_loader"]["dataset"]["streams"]
    for name, settings in streams.items():
        with streaming.MDSWriter(
            out=f"{settings['local']}/train", columns={"text": "str"}
        ) as writer:
            for i in range(30):
                writer.write({"text": f"{name} {i}"})
    dataset = streaming.StreamingDataset(
        streams=[streaming.Stream(**s) for s in streams.values()], batch_size=1, shuffle=False
    )
    drawn = [row["text"].split()[0] for row in dataset]
    assert drawn.count("code") / len(drawn) == pytest.approx(0.6, abs=0.03)


def weights_of_loader(config: Any) -> list[float]:
    """The weights in a config of torchtitan's loader: of its main branch, else of a release."""
    dataset = getattr(config, "dataset", None)
    return [child.weight for child in getattr(dataset, "datasets", None) or config.sources]


def test_torchtitan_builds_the_loaders_config(tmp_path: Path) -> None:
    pytest.importorskip("torchtitan")
    module = tmp_path / "mixture_of_demo.py"
    module.write_text(render("torchtitan", handover()), encoding="utf-8")
    config = runpy.run_path(str(module))["dataloader"]()
    assert weights_of_loader(config) == [0.6, 0.25, 0.15]


def test_unknown_formats_are_listed() -> None:
    with pytest.raises(UserError, match=r"Did you mean 'megatron'.*nanotron.*materialise"):
        render("megatro", handover())


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({}, "finite weights"),
        ({"a": 0.5}, "sum to 0.5"),
        ({"a": float("nan"), "b": 1.0}, "finite weights"),
        ({"a": -0.5, "b": 1.5}, "none negative"),
    ],
)
def test_broken_mixtures_are_refused(mixture: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        handover(mixture)


def test_a_template_must_tell_domains_apart() -> None:
    with pytest.raises(UserError, match="several domains one path"):
        handover(template="data/all")
    with pytest.raises(UserError, match=r"unknown field \{name\}"):
        handover(template="data/{name}")


def test_a_corpus_without_the_domain_is_refused(tiny_corpus: Corpus) -> None:
    with pytest.raises(UserError, match="no domain 'legal'"):
        handover({"legal": 1.0}, corpus=tiny_corpus)


def test_megatron_refuses_paths_it_cannot_read() -> None:
    with pytest.raises(UserError, match="blank or a quote"):
        render("megatron", handover(template="my data/{domain}"))


def test_slugs_are_safe_and_distinct() -> None:
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("中文领域") == "中文领域"
    assert slug("***") == "domain"
    sources = handover({"a/b": 0.4, "a b": 0.3, "A-B": 0.3}).sources
    assert len({s.slug.casefold() for s in sources}) == 3


def realised(folder: Path) -> dict[str, float]:
    facts = json.loads((folder / "mixture.json").read_text(encoding="utf-8"))
    return {name: domain["realised"] for name, domain in facts["domains"].items()}


TINY = {"web": 0.2, "code": 0.3, "math": 0.5}


def test_materialised_tokens_hold_the_mixture_in_every_prefix(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    written = materialise(handover(TINY, corpus=tiny_corpus, tokens=12_000), tiny_corpus, tmp_path)
    tokens = np.fromfile(written.path, dtype="<u2")
    assert 12_000 <= len(tokens) == written.total < 12_100
    assert realised(tmp_path) == pytest.approx(TINY, abs=0.005)
    assert json.loads((tmp_path / "mixture.json").read_text())["rule"] == "posterior-mean"
    ours = {name: tiny_corpus.domain(name) for name in TINY}
    words = {name: set(tiny_corpus.read(d.shards[0]).tolist()) for name, d in ours.items()}
    only_math = words["math"] - words["web"] - words["code"]
    shares = [np.isin(part, list(only_math)).mean() for part in np.array_split(tokens, 6)]
    assert max(shares) - min(shares) < 0.03
    assert written.epochs["math"] > 1.5  # 2857 tokens, 6000 wanted
    assert (tmp_path / "tokenizer.json").read_bytes() == tiny_corpus.tokenizer_file.read_bytes()


def test_what_materialised_data_leave_out_is_said(
    tiny_corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    order = handover({"web": 1 - 2e-7, "code": 2e-7}, corpus=tiny_corpus, tokens=3_000)
    materialise(order, tiny_corpus, tmp_path)
    assert "1 domain left out" in caplog.text and "code (2e-07)" in caplog.text
    assert "1 domain of the corpus not in the mixture, which weigh nothing: math." in caplog.text


def test_materialising_twice_gives_the_same_bytes(tiny_corpus: Corpus, tmp_path: Path) -> None:
    order = handover(TINY, corpus=tiny_corpus, tokens=5_000)
    first = materialise(order, tiny_corpus, tmp_path / "a").path.read_bytes()
    assert materialise(order, tiny_corpus, tmp_path / "b").path.read_bytes() == first
    other = handover(TINY, corpus=tiny_corpus, tokens=5_000, seed=7)
    assert materialise(other, tiny_corpus, tmp_path / "c").path.read_bytes() != first


def test_materialised_documents_are_whole_texts(tiny_corpus: Corpus, tmp_path: Path) -> None:
    written = materialise(
        handover(TINY, corpus=tiny_corpus, tokens=4_000), tiny_corpus, tmp_path, kind="documents"
    )
    rows = [json.loads(line) for line in written.path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == sum(written.documents.values())
    assert all(
        sorted(r["text"].split()) == ["plus", "two", "two"] for r in rows if r["domain"] == "math"
    )


def test_the_megatron_index_points_at_every_document(tiny_corpus: Corpus, tmp_path: Path) -> None:
    written = materialise(handover(TINY, corpus=tiny_corpus, tokens=3_000), tiny_corpus, tmp_path)
    raw = (tmp_path / "mixture.idx").read_bytes()
    assert raw[:9] == b"MMIDIDX\x00\x00"
    count = int.from_bytes(raw[18:26], "little")
    assert count == sum(written.documents.values())
    sizes = np.frombuffer(raw, dtype="<i4", count=count, offset=34)
    tokens = np.fromfile(written.path, dtype="<u2")
    assert sizes.sum() == len(tokens)
    assert np.all(tokens[np.cumsum(sizes) - 1] == tiny_corpus.eos)


def test_megatron_core_reads_the_materialised_tokens(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")  # which megatron-core warns that it lacks
    indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    written = materialise(handover(TINY, corpus=tiny_corpus, tokens=3_000), tiny_corpus, tmp_path)
    data = indexed.IndexedDataset(str(tmp_path / "mixture"))
    assert len(data) == sum(written.documents.values())
    joined = np.concatenate([data[i] for i in range(len(data))])
    assert np.array_equal(joined, np.fromfile(written.path, dtype="<u2"))


def test_materialising_needs_a_budget_and_an_empty_place(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="give --tokens"):
        materialise(handover(TINY, corpus=tiny_corpus), tiny_corpus, tmp_path)
    order = handover(TINY, corpus=tiny_corpus, tokens=1_000)
    materialise(order, tiny_corpus, tmp_path)
    with pytest.raises(UserError, match="exists already"):
        materialise(order, tiny_corpus, tmp_path)


@pytest.mark.parametrize("kind", ["tokens", "documents"])
def test_materialising_replaces_no_file_that_is_there(
    tiny_corpus: Corpus, tmp_path: Path, kind: Kind
) -> None:
    order = handover(TINY, corpus=tiny_corpus, tokens=1_000)
    other: Kind = "documents" if kind == "tokens" else "tokens"
    materialise(order, tiny_corpus, tmp_path / "other", kind=other)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mixture.json").write_text("{}")
    for folder in ("other", "mine"):
        before = (tmp_path / folder / "mixture.json").read_bytes()
        with pytest.raises(UserError, match=rf"{folder}/mixture\.json' exists already"):
            materialise(order, tiny_corpus, tmp_path / folder, kind=kind)
        assert (tmp_path / folder / "mixture.json").read_bytes() == before


def test_materialising_replaces_no_other_tokenizer(tiny_corpus: Corpus, tmp_path: Path) -> None:
    order, there = handover(TINY, corpus=tiny_corpus, tokens=1_000), tmp_path / "tokenizer.json"
    there.write_text("{}")
    with pytest.raises(UserError, match="is another tokenizer than the corpus's"):
        materialise(order, tiny_corpus, tmp_path)
    assert there.read_text() == "{}"
    there.write_bytes(tiny_corpus.tokenizer_file.read_bytes())
    assert materialise(order, tiny_corpus, tmp_path).total == 1_000


def test_a_full_disk_leaves_nothing_that_looks_whole(tiny_corpus: Corpus, tmp_path: Path) -> None:
    def full(tokens: int) -> None:
        raise OSError(28, "No space left on device")

    order = handover(TINY, corpus=tiny_corpus, tokens=1_000)
    with pytest.raises(UserError, match="no space left on the disk"):
        materialise(order, tiny_corpus, tmp_path, progress=full)
    assert not (tmp_path / "mixture.bin").exists()
