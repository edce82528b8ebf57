"""Embed the photos of a shard, and keep embeddings in .npz files without pickles."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edgetpu_retrain import files
from edgetpu_retrain.dataset import Photo, open_photo
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.interpreter import Interpreter, Quantization

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embeddings:
    """What an extractor gave for N photos.

    Attributes:
        embeddings: [N, D] uint8 or int8, as the extractor gave them.
        scale: float; real value = scale * (embedding - zero_point).
        zero_point: int.
        labels: [N] str, names of classes.
        splits: [N] str, each train, validation or test.
        photos: [N] str, identities (SHA-256) of the photos.
        extractor: identity (SHA-256) of the extractor's file.
    """

    embeddings: np.ndarray
    scale: float
    zero_point: int
    labels: np.ndarray
    splits: np.ndarray
    photos: np.ndarray
    extractor: str

    def save(self, path: str | Path) -> None:
        """Writes an .npz file of one array an attribute; equal contents give equal bytes."""
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                embeddings=self.embeddings,
                scale=np.float32(self.scale),
                zero_point=np.int32(self.zero_point),
                labels=self.labels,
                splits=self.splits,
                photos=self.photos,
                extractor=np.array(self.extractor),
            )

    @classmethod
    def load(cls, path: str | Path) -> "Embeddings":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(
                embeddings=arrays["embeddings"],
                scale=float(arrays["scale"]),
                zero_point=int(arrays["zero_point"]),
                labels=arrays["labels"],
                splits=arrays["splits"],
                photos=arrays["photos"],
                extractor=str(arrays["extractor"]),
            )

    @classmethod
    def concatenate(cls, shards: Sequence["Embeddings"]) -> "Embeddings":
        """Joins shards, sorted by identity and label, so that their number makes no difference.

        Raises:
            UserError: the shards come from different extractors.
        """
        first = shards[0]
        if len({shard.extractor for shard in shards}) > 1:
            raise UserError("The embeddings come from different extractors; delete them.")
        identities = np.concatenate([shard.photos for shard in shards])
        labels = np.concatenate([shard.labels for shard in shards])
        order = np.lexsort((labels, identities))
        return cls(
            np.concatenate([shard.embeddings for shard in shards])[order],
            first.scale,
            first.zero_point,
            labels[order],
            np.concatenate([shard.splits for shard in shards])[order],
            identities[order],
            first.extractor,
        )

    @property
    def quantization(self) -> Quantization:
        """What the quantized values stand for."""
        return Quantization(self.scale, self.zero_point)

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the embeddings of a split as float32 [M, D], and their labels [M] str."""
        chosen = self.splits == name
        return self.quantization.dequantize(self.embeddings[chosen]), self.labels[chosen]


def embed(
    shard: Sequence[Photo],
    extractor: str | Path,
    device: str = "auto",
    known: Embeddings | None = None,
    num_threads: int = 1,
) -> Embeddings:
    """Runs the photos of a shard through an extractor.

    Args:
        shard: the lines of a shard manifest.
        extractor: path of a .tflite file that maps an RGB image to a quantized embedding.
        device: as `interpreter.resolve_device` takes it.
        known: earlier embeddings; those of the same extractor are taken over by identity.
        num_threads: how many threads the CPU may use.

    Raises:
        UserError: the extractor gives no quantized vector, or a photo is not what it was when
            the manifest was written.
    """
    identity = files.sha256(extractor)
    vectors: dict[str, np.ndarray] = {}
    if known is not None and known.extractor == identity:
        vectors = dict(zip(known.photos.tolist(), known.embeddings, strict=True))
    new = [photo for photo in shard if photo.sha256 not in vectors]
    model = Interpreter(extractor, device, num_threads)
    if model.quantization is None or model.output_dtype not in (np.uint8, np.int8):
        raise UserError(
            f"{extractor} gives {model.output_dtype} values; the Edge TPU needs an extractor "
            "whose embedding is quantized to uint8 or int8."
        )
    for photo in tqdm(new, desc="Embedding photos", unit="photo"):
        vectors[photo.sha256] = model.run(open_photo(photo))
    log.info("%d photos embedded, %d taken over", len(new), len(shard) - len(new))
    embeddings = np.empty((len(shard), model.output_size), model.output_dtype)
    for row, photo in zip(embeddings, shard, strict=True):
        row[:] = vectors[photo.sha256]
    return Embeddings(
        embeddings,
        model.quantization.scale,
        model.quantization.zero_point,
        _strings(photo.label for photo in shard),
        _strings(photo.split for photo in shard),
        _strings(photo.sha256 for photo in shard),
        identity,
    )


def _strings(values: Iterable[str]) -> np.ndarray:
    # An empty list would become float64.
    return np.array(list(values), dtype=np.str_)
