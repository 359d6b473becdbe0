"""One BLAS thread for the small matrices of a search.

A Gaussian process on a few hundred trials is thousands of products that take microseconds each:
shared out, the threads wait for one another longer than they compute. An ask of `SimplexGPSampler`
on two idle cores takes .14 s with OpenBLAS's own threads and .065 s with one at 112 trials, 4.5 s
and 1.1 s at 1000, at four to eight times the CPU; on busy cores twice that
(docs/notes/running.md#numbers). Nor do the last digits of a proposal depend on the number of cores
then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]


@cache
def _controller() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401 - it brings a BLAS of its own, which must be loaded to be seen

    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """`with one_blas_thread():` or `@one_blas_thread()`; costs 10 us.

    OpenBLAS has one number of threads for the whole process: of several Python threads the first
    to come limits it, and gives it back when it is done (threadpoolctl >= 3.8).
    """
    with _controller().limit(limits=1):
        yield
