"""Divide arrays into blocks, and process blocks in threads."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# `map`, or a multithreaded equivalent.
MapFunction = Callable[..., Iterable[Any]]


def blocks(stop: int, size: int, start: int = 0) -> list[slice]:
    """Divides the indices from `start` up to `stop` into slices of at most `size`.

    >>> blocks(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(first, min(first + size, stop)) for first in range(start, stop, size)]


@contextlib.contextmanager
def threads(count: int) -> Iterator[MapFunction]:
    """Yields a `map` that runs in `count` threads, with single-threaded linear algebra in each."""
    # Imported here because only the workflow depends on them. threadpoolctl limits only libraries
    # that are already loaded, so SciPy comes first.
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    # BLAS adds in a different order for each number of threads, which changes the last bits.
    with threadpool_limits(1), ThreadPoolExecutor(count) as pool:
        yield pool.map
