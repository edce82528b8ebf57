"""Share a limited amount of memory between threads that decode photos."""

import contextlib
import threading
from collections.abc import Iterator

from edgetpu_retrain.photos import decode

# Enough for 8 photos of 24 megapixels at once, from iPhones for example.
_BUDGET_BYTES = 2_000_000_000
# A decoded image has 3 or 4 bytes per pixel, and is converted to another.
_BYTES_PER_PIXEL = 8


class Budget:
    """An amount of memory that threads take from, and wait for."""

    def __init__(self, total: int = _BUDGET_BYTES) -> None:
        """Provides `total` bytes."""
        self._total = total
        self._used = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taking(self, size: int) -> Iterator[None]:
        """Waits until `size` bytes are free, and holds them during the block.

        More than there is altogether is given to one thread at a time.
        """
        size = min(size, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._used + size <= self._total)
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()


_shared = Budget()


@contextlib.contextmanager
def for_photo(content: bytes, min_side: int | None = None) -> Iterator[None]:
    """Holds the memory to decode a photo with `decode.read_photo`, of a budget for all threads."""
    with _shared.taking(needed(content, min_side)):
        yield


def needed(content: bytes, min_side: int | None = None) -> int:
    """Returns about how many bytes it takes to decode a photo; 0 if it cannot be opened.

    Args:
        content: the content of the file.
        min_side: as for `decode.read_photo`.
    """
    try:
        image = decode.open_image(content)
    except Exception:
        # Whatever is wrong with the photo is found when it is decoded.
        return 0
    width, height = image.size
    is_reduced = min_side is not None and image.format == "JPEG"
    # Of a progressive JPEG, even if it is decoded at a fraction, all coefficients are in memory.
    in_parts = is_reduced and not image.info.get("progressive")
    return width * height * (1 if in_parts else _BYTES_PER_PIXEL)
