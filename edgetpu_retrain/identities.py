"""Identities of many photos as arrays: 32 bytes of each instead of a text of 64 digits.

They are sorted by the digits that decide about a photo's shard (`manifest.shard_of`), then by the
whole, so the photos of a shard follow one another, into however many shards they are divided.
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

DIGITS = 64
_BYTES = 32
_BLOCK = 1_024
# Where the bytes of a SHA-256 stand: those first that shards are ranges of.
_ORDER = (*range(8, 16), *range(8), *range(16, 32))


def pack(identities: Sequence[str]) -> np.ndarray:
    """Returns identities as [N] S32, which sort by shard.

    Args:
        identities: SHA-256 in hexadecimal.

    Raises:
        ValueError: one is no SHA-256.

    >>> low, high = "f" * 16 + "0" * 48, "0" * 16 + "1" * 48
    >>> pack([low, high]).argsort().tolist()
    [0, 1]
    """
    if any(len(sha256) != DIGITS for sha256 in identities):
        raise ValueError("an identity has not 64 digits")
    return _pack("".join(identities))


def pack_all(identities: Iterable[str]) -> np.ndarray:
    """Does what `pack` does, with some texts at a time in memory."""
    listed, parts = iter(identities), [pack([])]
    while some := list(itertools.islice(listed, _BLOCK)):
        parts.append(pack(some))
    return np.concatenate(parts)


def pack_digits(digits: np.ndarray) -> np.ndarray:
    """Returns what `pack` does of the digits' codes, [N, 64] uint8."""
    return _pack(digits.tobytes().decode())


def _pack(text: str) -> np.ndarray:
    content = np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, _BYTES)
    return np.ascontiguousarray(content[:, _ORDER]).view(f"S{_BYTES}")[:, 0]


def find(known: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Looks identities up among others.

    Args:
        known: [N] S32, sorted.
        wanted: [M] S32.

    Returns:
        [M] int, where each is among the known ones, and [M] bool, whether it is there at all.
    """
    if not len(known):
        return np.zeros(len(wanted), int), np.zeros(len(wanted), bool)
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return places, known[places] == wanted
