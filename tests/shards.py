"""Embeddings as they lie on the disk after a run."""

from pathlib import Path

from edgetpu_retrain.embeddings.shards import Embeddings


def save_shards(folder: Path, *shards: Embeddings) -> list[Path]:
    """Writes shards to a folder and returns their paths."""
    paths = [folder / f"{i:04}.npz" for i in range(len(shards))]
    for path, shard in zip(paths, shards, strict=True):
        shard.save(path)
    return paths
