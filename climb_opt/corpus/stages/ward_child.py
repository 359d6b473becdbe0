"""The Ward tree of points, by itself or as a process that can be killed (`corpus.run.aside`).

Points come on standard input and the tree goes to standard output, both float64 and row by row.
"""

from __future__ import annotations

import signal
import sys

import numpy as np


def ward(points: np.ndarray) -> np.ndarray:
    """The tree (n - 1, 4) of points (n, dimensions), as SciPy's `linkage` gives it."""
    from scipy.cluster.hierarchy import linkage

    return linkage(points, "ward")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which kills this
    points = np.frombuffer(sys.stdin.buffer.read()).reshape(-1, int(sys.argv[1]))
    sys.stdout.buffer.write(ward(points).tobytes())
