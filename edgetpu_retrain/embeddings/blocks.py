"""Divide long arrays into blocks, and work on blocks in threads."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# A map, perhaps of several threads.
MapFunction = Callable[..., Iterable[Any]]


def blocks(stop: int, size: int, start: int = 0) -> list[slice]:
    """Divides the positions from `start` up to `stop` into slices of at most `size`.

    >>> blocks(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(first, min(first + size, stop)) for first in range(start, stop, size)]


@contextlib.contextmanager
def threads(count: int) -> Iterator[MapFunction]:
    """Gives a `map` that calls its function in `count` threads, each with one thread for sums."""
    # Importing the library should not need what only the workflow does. What threadpoolctl limits
    # has to be loaded before.
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    # The order of a sum, and so its last bits, depends on the number of threads of a product.
    with threadpool_limits(1), ThreadPoolExecutor(count) as pool:
        yield pool.map
