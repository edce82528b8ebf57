"""Store embeddings by photo identity in .npz files without pickles."""

import logging
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import manifest
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import preprocessing
from edgetpu_retrain.runtime.interpreter import Quantization

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of N photos. Their classes and splits are in the manifest.

    Attributes:
        embeddings: [N, D] uint8 or int8, output of the extractor.
        scale: scale of the embeddings; real value = scale * (embedding - zero_point).
        zero_point: zero point of the embeddings.
        photos: [N] bytes, identities (SHA-256 in hexadecimal) of the photos, in ascending order.
        hashes: [N, 32] uint8, their perceptual hashes (`photos.perceptual_hash`).
        extractor: identity (SHA-256) of the extractor's file.
        preprocessing: version of the preprocessing (`preprocessing.version`).
        undecodable: [M] bytes, identities of photos that cannot be decoded.
        reasons: [M] str, the reasons.
    """

    embeddings: np.ndarray
    scale: float
    zero_point: int
    photos: np.ndarray
    hashes: np.ndarray
    extractor: str
    preprocessing: str
    undecodable: np.ndarray
    reasons: np.ndarray

    def save(self, path: str | Path) -> None:
        """Writes an .npz file with one array per attribute; equal embeddings give equal files."""
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **self.arrays())

    @classmethod
    def load(cls, path: str | Path) -> "Embeddings":
        """Reads a file written by `save`.

        Raises:
            UserError: the file is damaged, or was written by another version of this project.
        """
        with files.reading(path), np.load(path, allow_pickle=False) as arrays:
            return cls.of_arrays(arrays)

    def arrays(self) -> dict[str, Any]:
        """Returns the arrays of an .npz file, by name."""
        return {
            "embeddings": self.embeddings,
            "scale": np.array(self.scale, np.float32),
            "zero_point": np.array(self.zero_point, np.int32),
            "photos": self.photos,
            "hashes": self.hashes,
            "extractor": np.array(self.extractor),
            "preprocessing": np.array(self.preprocessing),
            "undecodable": self.undecodable,
            "reasons": self.reasons,
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Embeddings":
        """Returns embeddings from what `arrays` returned; further arrays are ignored."""
        return cls(
            embeddings=arrays["embeddings"],
            scale=float(arrays["scale"]),
            zero_point=int(arrays["zero_point"]),
            photos=arrays["photos"],
            hashes=arrays["hashes"],
            extractor=str(arrays["extractor"]),
            preprocessing=str(arrays["preprocessing"]),
            undecodable=arrays["undecodable"],
            reasons=arrays["reasons"],
        )

    def select(self, identities: Collection[str]) -> "Embeddings":
        """Returns those of the given photos."""
        kept, unreadable = (
            np.array([name.decode() in identities for name in photos.tolist()], bool)
            for photos in (self.photos, self.undecodable)
        )
        return replace(
            self,
            embeddings=self.embeddings[kept],
            photos=self.photos[kept],
            hashes=self.hashes[kept],
            undecodable=self.undecodable[unreadable],
            reasons=self.reasons[unreadable],
        )

    @property
    def quantization(self) -> Quantization:
        """Scale and zero point of the embeddings."""
        return Quantization(self.scale, self.zero_point)

    def undecodable_reasons(self) -> dict[str, str]:
        """Returns why photos cannot be decoded, by identity."""
        return dict(zip(self.undecodable.astype(str).tolist(), self.reasons.tolist(), strict=True))


def read_undecodable(path: str | Path) -> dict[str, str]:
    """Reads from a file written by `Embeddings.save` why photos cannot be decoded, by identity.

    Raises:
        UserError: the file is damaged.
    """
    with files.reading(path), np.load(path, allow_pickle=False) as arrays:
        identities = arrays["undecodable"].astype(str).tolist()
        return dict(zip(identities, arrays["reasons"].tolist(), strict=True))


class EmbeddingCache:
    """A cache of the latest embeddings of each shard, for one extractor and preprocessing.

    Snakemake deletes the outputs of a job before it runs and after it was killed, so the cache is
    in a separate folder. It may be deleted at any time.
    """

    def __init__(self, folder: str | Path, extractor: str | Path, resize: str) -> None:
        """Opens the cache.

        Args:
            folder: folder of all caches; each extractor and preprocessing has a subfolder.
            extractor: path of the extractor.
            resize: as in `preprocessing.to_pixels`.
        """
        version = preprocessing.version(resize).replace(" ", "-")
        self._folder = Path(folder, f"{files.sha256(extractor)[:16]}-{version}")

    def load(self, shard: str) -> Iterator[Embeddings]:
        """Yields cached embeddings that may contain a shard's photos; skips damaged files.

        If the number of shards changed, these are all files that overlap with the shard.

        Args:
            shard: name of the shard, such as "0000-of-0001".
        """
        names = [path.stem for path in self._folder.glob("*-of-*.npz")]
        for name in [shard] if shard in names else manifest.overlapping_shards(shard, names):
            try:
                yield Embeddings.load(self._folder / f"{name}.npz")
            except (UserError, OSError):
                log.warning("%s is damaged and is not used", self._folder / f"{name}.npz")

    def store(self, shard: str | Path) -> None:
        """Stores a shard's file in the cache: as a hard link if the file system supports it."""
        with files.replacing(self._folder / Path(shard).name) as temporary:
            try:
                os.link(shard, temporary)
            except OSError:
                shutil.copyfile(shard, temporary)

    @staticmethod
    def remove_other_shards(folder: str | Path, shards: Iterable[str | Path]) -> None:
        """Deletes cached shards with a different number of shards, once all `shards` are cached.

        They would take up disk space twice, and `load` might return them instead of newer ones.

        Args:
            folder: folder of all caches.
            shards: paths of all current shards.
        """
        names = [Path(shard).name for shard in shards]
        for subfolder in Path(folder).glob("*"):
            cached = [subfolder / name for name in names]
            if all(path.is_file() for path in cached):
                manifest.remove_other_shards(cached)
