"""A corpus as a map: its clusters in two dimensions, coloured by domain.

t-SNE of the cluster centroids; a cluster near another holds similar documents. The one file of the
corpus that imports matplotlib.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from climb_opt.corpus.folder import CLUSTERS
from climb_opt.errors import UserError
from climb_opt.extras import in_font, need
from climb_opt.files import atomic
from climb_opt.shards import Corpus
from climb_opt.text import printable

PERPLEXITY = 30.0
COLOURS = 20  # of matplotlib's tab20; more domains repeat them with another marker
MARKERS = "osD^v"


@dataclass(frozen=True)
class Points:
    """Clusters on the map: where (n, 2), which cluster, and the index of its domain (n,)."""

    places: np.ndarray
    clusters: np.ndarray
    domain: np.ndarray


def points(corpus: Corpus) -> Points:
    """The clusters of a corpus in two dimensions; the same on every run.

    Raises:
        UserError: the corpus has no centroids (its domains came with the input).
    """
    file = corpus.path / CLUSTERS
    if not file.is_file():
        raise UserError(
            f"Corpus {str(corpus.path)!r} has no map: its domains were not found by clustering."
        )
    with np.load(file) as data:
        centroids = data["centroids"]
    domain = np.full(len(centroids), -1)
    for index, found in enumerate(corpus.domains):  # as edited since
        domain[[c for c in found.info.get("clusters", []) if isinstance(c, int)]] = index
    kept = np.flatnonzero(domain >= 0)
    return Points(_flatten(centroids[kept]), kept, domain[kept])


def draw(corpus: Corpus, file: Path) -> None:
    """Write the map as an image (the format is that of the file's ending)."""
    need("matplotlib", "Drawing a map", "climb-opt[dashboard]")
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = points(corpus)
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, domain in enumerate(corpus.domains):
        mine = found.places[found.domain == index]
        marker = MARKERS[index // COLOURS % len(MARKERS)]
        few = len(corpus.domains) <= 10
        colour = f"C{index % 10}" if few else colormaps["tab20"](index % COLOURS)
        name = _drawable(domain.name)
        axes.scatter(
            mine[:, 0], mine[:, 1], s=18, c=[colour], marker=marker, label=name, linewidths=0
        )
        if len(mine):
            axes.annotate(name, np.median(mine, axis=0), fontsize=8, ha="center")
    title = f"{_drawable(corpus.name)}: {len(found.clusters)} clusters"
    axes.set(xticks=[], yticks=[], title=title)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    with atomic(file) as partial:
        figure.savefig(partial, dpi=130, format=file.suffix.lstrip(".") or "png")


def _drawable(name: str) -> str:
    # matplotlib reads $...$ as mathematics, and leaves labels that begin with _ out of legends.
    text = in_font(printable(name)).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _flatten(centroids: np.ndarray) -> np.ndarray:
    if len(centroids) < 4:  # t-SNE needs neighbours
        return np.stack([np.arange(len(centroids)), np.zeros(len(centroids))], axis=1)
    manifold = need("sklearn.manifold", "Drawing a map")
    perplexity = min(PERPLEXITY, (len(centroids) - 1) / 3)
    method = manifold.TSNE(2, perplexity=perplexity, init="pca", random_state=0)
    return np.asarray(method.fit_transform(centroids.astype(np.float32)))
