"""Embeddings as they lie on the disk after a run."""

from pathlib import Path

import numpy as np

from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.stored_embeddings import StoredEmbeddings


def stored(folder: Path, *shards: Embeddings) -> StoredEmbeddings:
    """Writes shards to a folder and opens them."""
    paths = [folder / f"{i:04}.npz" for i in range(len(shards))]
    for path, shard in zip(paths, shards, strict=True):
        shard.save(path)
    return StoredEmbeddings.open(paths)


def identities_of(stored: StoredEmbeddings) -> list[str]:
    digits = stored.photos[np.arange(len(stored))].tobytes().decode()
    return [digits[i : i + 64] for i in range(0, len(digits), 64)]
