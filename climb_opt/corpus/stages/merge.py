"""Fine clusters -> domains: a Ward tree over the centroids, cut at a count or at a distance.

The paper names a "centroid distance" of 1.5 (Section 4.1); NVIDIA's code cuts a Ward tree at 1.5.
Between unit vectors plain distances stay below 1.5, so only the latter can give several domains,
and a distance means something else for every encoder and number of clusters
(docs/notes/corpus.md#merging). So a count is the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from climb_opt.corpus.run.aside import Aside
from climb_opt.corpus.stages import ward_child
from climb_opt.errors import UserError

# Clusters. SciPy holds the interpreter's lock for all of it, by the square of their number: .4 s
# for so many, 4 s for 6,000. A process of its own takes half a second to start.
AT_ONCE = 2000
_MERGING = Aside(ward_child, "Merging the clusters", "Give fewer --clusters.")
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)


@dataclass(frozen=True)
class MergeOptions:
    """How far clusters are merged.

    Attributes:
        domains: wanted number; None: 16, or every cluster where the input brings its own.
        distance: cut the tree at this Ward distance instead (1.5 is NVIDIA's).
    """

    domains: int | None = None
    distance: float | None = None


def ward_tree(centroids: np.ndarray) -> np.ndarray:
    """The Ward tree (n - 1, 4) of centroids (n >= 2, dimensions), as SciPy gives it.

    Args:
        centroids: of clusters that hold documents: an empty one would bend the tree and could give
            an empty domain.
    """
    points = np.ascontiguousarray(centroids, dtype=np.float64)
    if len(points) <= AT_ONCE:
        return ward_child.ward(points)
    made = _MERGING.run((points.shape[1],), (points.data,))
    return np.frombuffer(bytearray(made)).reshape(-1, 4)  # of bytes it would be for reading alone


def merge(tree: np.ndarray, options: MergeOptions, domains: int) -> np.ndarray:
    """Domain of each centroid (n,), numbered from 0 in order of first appearance.

    Args:
        tree: of the centroids, (n - 1, 4).
        domains: wanted number, where no distance is given.

    Raises:
        UserError: everything ends in one domain.
    """
    from scipy.cluster.hierarchy import cut_tree, fcluster

    if options.distance is not None:
        labels = fcluster(tree, options.distance, criterion="distance")
    elif domains > len(tree):
        labels = np.arange(len(tree) + 1)
    else:
        # Not fcluster's maxclust: it gives fewer where distances tie.
        labels = cut_tree(tree, n_clusters=domains).ravel()
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    if len(first) == 1:
        table = ", ".join(f"{t}: {n}" for t, n in threshold_table(tree).items())
        raise UserError(
            f"Merging {'at distance ' + str(options.distance) if options.distance else ''} leaves "
            f"one domain. Distance -> domains: {table}. "
            "Lower --merge-distance or ask for a count with --domains."
        )
    return np.argsort(np.argsort(first))[inverse]


def threshold_table(tree: np.ndarray) -> dict[str, int]:
    """Ward distance -> number of domains a cut of the tree there gives."""
    return {f"{t:g}": int((tree[:, 2] > t).sum()) + 1 for t in THRESHOLDS}


def extremes(sizes: Sequence[int] | np.ndarray) -> dict[str, float]:
    """Smallest, median and largest cluster, its share, and how many are empty."""
    array = np.asarray(sizes)
    return {
        "smallest": int(array.min()),
        "median": float(np.median(array)),
        "largest": int(array.max()),
        "largest_share": float(array.max() / max(1, array.sum())),
        "empty": int((array == 0).sum()),
    }
