"""Keep embeddings by photo identity in .npz files without pickles."""

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import manifest
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import preprocessing
from edgetpu_retrain.runtime.interpreter import Quantization

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embeddings:
    """What an extractor gave for N photos. Their classes and splits stand in the manifest.

    Attributes:
        embeddings: [N, D] uint8 or int8, as the extractor gave them.
        scale: float; real value = scale * (embedding - zero_point).
        zero_point: int.
        photos: [N] bytes, identities (SHA-256 in hexadecimal) of the photos, in order.
        hashes: [N, 32] uint8, their perceptual hashes (`photos.perceptual_hash`).
        extractor: identity (SHA-256) of the extractor's file.
        preprocessing: version of the way from photo to bytes (`preprocessing.version`).
        undecodable: [M] bytes, identities of photos that could not be decoded.
        reasons: [M] str, why.
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
        """Writes an .npz file of one array per attribute; equal contents give equal bytes."""
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                embeddings=self.embeddings,
                scale=np.float32(self.scale),
                zero_point=np.int32(self.zero_point),
                photos=self.photos,
                hashes=self.hashes,
                extractor=np.array(self.extractor),
                preprocessing=np.array(self.preprocessing),
                undecodable=self.undecodable,
                reasons=self.reasons,
            )

    @classmethod
    def load(cls, path: str | Path) -> "Embeddings":
        """Reads what `save` wrote.

        Raises:
            UserError: the file is damaged, or was written by another version of this project.
        """
        with files.reading(path), np.load(path, allow_pickle=False) as arrays:
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

    @property
    def quantization(self) -> Quantization:
        """What the quantized values stand for."""
        return Quantization(self.scale, self.zero_point)

    def undecodable_reasons(self) -> dict[str, str]:
        """Returns the reason of every photo that could not be decoded, by identity."""
        return dict(zip(self.undecodable.astype(str).tolist(), self.reasons.tolist(), strict=True))


def read_undecodable(path: str | Path) -> dict[str, str]:
    """Returns why photos of a shard could not be decoded, by identity; reads nothing else of it.

    Raises:
        UserError: the file is damaged.
    """
    with files.reading(path), np.load(path, allow_pickle=False) as arrays:
        identities = arrays["undecodable"].astype(str).tolist()
        return dict(zip(identities, arrays["reasons"].tolist(), strict=True))


class EmbeddingCache:
    """The last vectors of each shard, kept beside the outputs of jobs.

    Snakemake removes the outputs of a job before it runs, and after it was killed. What is kept
    is of one extractor and preprocessing; it is a cache that may be deleted at any time.
    """

    def __init__(self, folder: str | Path, extractor: str | Path, resize: str) -> None:
        """Finds the place for an extractor's vectors below `folder`."""
        version = preprocessing.version(resize).replace(" ", "-")
        self._folder = Path(folder, f"{files.sha256(extractor)[:16]}-{version}")

    def load(self, shard: str) -> Iterator[Embeddings]:
        """Yields what may hold vectors of a shard's photos; what is damaged is left out.

        After a change of the number of shards the photos are in files of other names.
        """
        names = [path.stem for path in self._folder.glob("*-of-*.npz")]
        for name in [shard] if shard in names else manifest.overlapping_shards(shard, names):
            try:
                yield Embeddings.load(self._folder / f"{name}.npz")
            except (UserError, OSError):
                log.warning("%s is damaged and not used", self._folder / f"{name}.npz")

    def store(self, shard: str | Path) -> None:
        """Keeps a complete file of a shard: as a second name of it, where the disk has such."""
        with files.replacing(self._folder / Path(shard).name) as temporary:
            try:
                os.link(shard, temporary)
            except OSError:
                shutil.copyfile(shard, temporary)

    @staticmethod
    def remove_other_shards(folder: str | Path, shards: Iterable[str | Path]) -> None:
        """Removes what is kept below `folder` of another number of shards than all of `shards`.

        It would take the disk's room twice, and hide what is known by now from `load`.
        """
        names = [Path(shard).name for shard in shards]
        for one in Path(folder).glob("*"):
            kept = [one / name for name in names]
            if all(path.is_file() for path in kept):
                manifest.remove_other_shards(kept)
