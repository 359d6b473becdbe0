"""k-means on any back end, merging, agreement with labels."""

from __future__ import annotations

import builtins
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage

from climb_opt.corpus.documents import (
    Block,
    Document,
    Pool,
    sample_rows,
    sample_texts,
    write_block,
)
from climb_opt.corpus.run.workspace import Workspace
from climb_opt.corpus.stages import cluster, ward_child
from climb_opt.corpus.stages import merge as merging
from climb_opt.corpus.stages.cluster import (
    ClusterOptions,
    choose_backend,
    kmeans,
    nearest_centroids,
)
from climb_opt.corpus.stages.embed import informative
from climb_opt.corpus.stages.labels import agreement
from climb_opt.corpus.stages.merge import (
    MergeOptions,
    extremes,
    merge,
    threshold_table,
    ward_tree,
)
from climb_opt.errors import UserError
from climb_opt.files import save_array


def blobs(count: int = 50, centres: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    places = np.eye(8, dtype=np.float32)[:centres] * 3
    labels = np.repeat(np.arange(centres), count)
    return (places[labels] + rng.normal(0, 0.1, (len(labels), 8))).astype(np.float32), labels


def table_of(found: np.ndarray, labels: np.ndarray) -> np.ndarray:
    table = np.zeros((found.max() + 1, labels.max() + 1), dtype=np.int64)
    np.add.at(table, (found, labels), 1)
    return table


@pytest.mark.parametrize("backend", ["faiss", "sklearn"])
def test_either_back_end_finds_separate_groups(backend: str) -> None:
    points, labels = blobs()
    centroids = kmeans(points, 4, 10, 0, backend)
    assert centroids.shape == (4, 8) and centroids.dtype == np.float32
    found = nearest_centroids(centroids, backend)(points)
    assert agreement(table_of(found, labels)) == (pytest.approx(1.0), 1.0)


def test_both_back_ends_assign_alike() -> None:
    points, _ = blobs(seed=3)
    centroids = kmeans(points, 9, 5, 1, "sklearn")
    first, second = (nearest_centroids(centroids, b)(points) for b in ("faiss", "sklearn"))
    assert np.array_equal(first, second)


def test_equal_seeds_give_equal_centroids() -> None:
    points, _ = blobs()
    for backend in ("faiss", "sklearn"):
        first, second = (kmeans(points, 6, 5, 7, backend) for _ in range(2))
        assert np.array_equal(first, second)


def test_an_empty_faiss_namespace_is_not_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is left after `pip uninstall` of one of two faiss packages (docs/notes/corpus.md#faiss).
    monkeypatch.setitem(__import__("sys").modules, "faiss", types.ModuleType("faiss"))
    assert choose_backend("auto") == "sklearn"
    with pytest.raises(UserError, match=r"'faiss-gpu' is not available here. Available: sklearn"):
        choose_backend("faiss-gpu")


def test_faiss_that_raises_on_import_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "faiss":
            raise RuntimeError("faiss-gpu installed but nvidia-cuda-runtime-cu12 is missing")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert choose_backend("auto") == "sklearn"


def test_a_gpu_is_used_where_faiss_sees_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    assert choose_backend("auto") == "faiss", "faiss-cpu on a Mac"
    monkeypatch.setattr(faiss, "index_cpu_to_gpu_multiple", None, raising=False)
    assert choose_backend("auto") == "faiss-gpu"
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    assert choose_backend("auto") == "faiss"


@pytest.mark.parametrize("backend", ["faiss", "sklearn"])
def test_embeddings_that_tell_nothing_are_left_out(tmp_path: Path, backend: str) -> None:
    points, _ = blobs()
    points[[7, 20, 60, 90]] = [[np.nan], [0.0], [1e-9], [0.3]]  # the last three: zero, underflown,
    points[[120, 121]] = [[np.inf], [-np.inf]]  # constant
    lost = [7, 20, 60, 90, 120, 121]
    block = Block("b", len(points), 1)
    stage = Workspace(tmp_path, progress=False).stage("embeddings")
    save_array(stage.file("b.npy"), points.astype(np.float16))
    made = Workspace(tmp_path, progress=False).stage("centroids")
    options = ClusterOptions(clusters=4, backend=backend)
    everything = lambda b: np.ones(b.documents, dtype=bool)  # noqa: E731
    facts = cluster.fit_centroids(made, stage, Pool([block], everything, 0), 4, options)
    assert facts["fit_points"] == len(points) - len(lost)
    assigned = Workspace(tmp_path, progress=False).stage("clusters")
    cluster.assign_clusters(assigned, stage, made.file("centroids.npy"), [block], backend)
    found = np.load(assigned.file("b.npy"))
    assert (found[lost] == -1).all() and (np.delete(found, lost) >= 0).all()


def test_embeddings_of_one_or_two_dimensions_may_be_constant() -> None:
    line, plane = np.array([[1.0], [-1.0], [0.0]]), np.array([[0.7, 0.7], [0.7, -0.7], [0, np.nan]])
    for vectors in (line, plane):
        assert informative(vectors.astype(np.float16)).tolist() == [True, True, False]


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_embeddings_that_tell_nothing_at_all_are_an_error(value: float, tmp_path: Path) -> None:
    block = Block("b", 40, 1)
    stage = Workspace(tmp_path, progress=False).stage("embeddings")
    save_array(stage.file("b.npy"), np.full((40, 8), value, dtype=np.float16))
    made = Workspace(tmp_path, progress=False).stage("centroids")
    everything = lambda b: np.ones(b.documents, dtype=bool)  # noqa: E731
    with pytest.raises(UserError, match="Only 0 embeddings tell anything"):
        cluster.fit_centroids(made, stage, Pool([block], everything, 0), 4, ClusterOptions())


@pytest.mark.parametrize(
    ("options", "documents", "message"),
    [
        (ClusterOptions(), 7, "7 documents are fewer than 8 domains"),
        (ClusterOptions(clusters=50), 20, "--clusters 50 is more than the 20 documents"),
    ],
)
def test_too_many_clusters(options: ClusterOptions, documents: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cluster.number_of_clusters(options, documents, 8)


def test_the_default_number_of_clusters_grows_to_that_of_the_paper() -> None:
    found = [cluster.number_of_clusters(ClusterOptions(), n, 8) for n in (10, 100, 5000, 10**6)]
    assert found == [10, 16, 250, 1000]


# --- samples ----------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(1, 60))
@settings(max_examples=60)
def test_sampled_rows_are_distinct_kept_ones(sizes: list[int], count: int) -> None:
    starts = np.concatenate([[0], np.cumsum(sizes)])
    blocks = [Block(str(i), n, 0, int(starts[i])) for i, n in enumerate(sizes)]

    def odd(block: Block) -> np.ndarray:
        return np.arange(block.documents) % 2 == 1

    found = [(b.name, r) for b, rows in sample_rows(Pool(blocks, odd, 0), count) for r in rows]
    kept = sum(n // 2 for n in sizes)
    assert len(found) == len(set(found)) == min(count, kept)
    assert all(row % 2 == 1 for _, row in found)


def test_sampled_texts_are_those_that_may_be_drawn(tmp_path: Path) -> None:
    some = [Document(str(n), f"text {n}") for n in range(20)]
    blocks = [write_block(tmp_path, name, some) for name in "ab"]
    odd = np.arange(20) % 2 == 1
    found = sample_texts(tmp_path, Pool(blocks, lambda block: odd, 0), 10**9, 6)
    assert list(found) == [f"text {n}"[:6] for n in range(1, 20, 2)] * 2


# --- merging ----------------------------------------------------------------------------------


def test_ward_merges_what_is_close() -> None:
    points, labels = blobs(count=5)
    merged = merge(ward_tree(points), MergeOptions(), 4)
    assert agreement(table_of(merged, labels))[1] == 1.0


@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 99))
@settings(max_examples=40)
def test_the_wanted_number_of_domains_comes_out(clusters: int, domains: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(clusters, 5))
    merged = merge(ward_tree(points), MergeOptions(), domains)
    assert set(merged) == set(range(min(clusters, domains)))


@pytest.mark.parametrize("domains", range(2, 9))
def test_the_wanted_number_comes_out_where_distances_tie(domains: int) -> None:
    assert len(set(merge(ward_tree(np.eye(8)), MergeOptions(), domains))) == domains
    pairs = np.repeat(np.eye(4) * 9, 2, axis=0) + np.tile([[0.0], [0.5]], (4, 1))
    assert len(set(merge(ward_tree(pairs), MergeOptions(), domains))) == domains


def test_a_distance_cuts_where_the_table_says() -> None:
    points, _ = blobs(count=5)
    for distance, domains in threshold_table(ward_tree(points)).items():
        if domains > 1:
            merged = merge(ward_tree(points), MergeOptions(distance=float(distance)), 16)
            assert len(set(merged)) == domains


def test_one_domain_left_is_an_error_with_the_table() -> None:
    points, _ = blobs(count=5)
    with pytest.raises(UserError, match=r"at distance 1000.0 leaves one domain.*0.5: \d+"):
        merge(ward_tree(points), MergeOptions(distance=1000.0), 16)


def test_many_clusters_give_the_same_tree_in_a_process_that_can_be_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = blobs(count=9)[0].astype(np.float32)
    here = ward_tree(points)
    monkeypatch.setattr(merging, "AT_ONCE", 2)
    there = ward_tree(points)
    assert there.tobytes() == linkage(points.astype(np.float64), "ward").tobytes()
    assert there.tobytes() == here.tobytes()
    assert merge(there, MergeOptions(distance=1.0), 9).tolist()  # SciPy asks for writable memory


def test_clusters_that_memory_does_not_hold_are_an_error_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "child.py"
    script.write_text("raise MemoryError('Unable to allocate 20 GiB')")
    monkeypatch.setattr(ward_child, "__file__", str(script))
    monkeypatch.setattr(merging, "AT_ONCE", 2)
    with pytest.raises(UserError, match=r"Merging the clusters failed.*20 GiB.*--clusters"):
        ward_tree(np.eye(9))


def test_without_labels_there_is_no_agreement() -> None:
    assert agreement(np.zeros((3, 2), dtype=np.int64)) == (0.0, 0.0)


def test_agreement_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import normalized_mutual_info_score

    rng = np.random.default_rng(0)
    found, labels = rng.integers(0, 5, 300), rng.integers(0, 3, 300)
    labels[:150] = found[:150] % 3
    nmi, purity = agreement(table_of(found, labels))
    assert nmi == pytest.approx(normalized_mutual_info_score(labels, found))
    assert purity == pytest.approx(table_of(found, labels).max(axis=1).sum() / 300)


def test_extremes_count_empty_clusters() -> None:
    assert extremes([0, 5, 15]) == {
        "smallest": 0, "median": 5.0, "largest": 15, "largest_share": 0.75, "empty": 1,
    }  # fmt: skip
