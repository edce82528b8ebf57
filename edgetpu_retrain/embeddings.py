"""Embed the photos of a shard, and keep vectors by photo identity in .npz files without pickles."""

import collections
import hashlib
import logging
import os
import queue
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgetpu_retrain import copies, files, manifest, photos, preprocessing
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.interpreter import Interpreter, Quantization

log = logging.getLogger(__name__)

# Photos per thread that may be decoded before they are needed.
_AHEAD = 4
# A photo's embedding and perceptual hash.
_Vector = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Embeddings:
    """What an extractor gave for N photos. Their classes and splits stand in the manifest.

    Attributes:
        embeddings: [N, D] uint8 or int8, as the extractor gave them.
        scale: float; real value = scale * (embedding - zero_point).
        zero_point: int.
        photos: [N] bytes, identities (SHA-256 in hexadecimal) of the photos, in order.
        hashes: [N, 32] uint8, their perceptual hashes (`copies.perceptual_hash`).
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

    def why_undecodable(self) -> dict[str, str]:
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


class Known:
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
        for name in [shard] if shard in names else manifest.overlapping(shard, names):
            try:
                yield Embeddings.load(self._folder / f"{name}.npz")
            except (UserError, OSError):
                log.warning("%s is damaged and not used", self._folder / f"{name}.npz")

    def keep(self, shard: str | Path) -> None:
        """Keeps a complete file of a shard: as a second name of it, where the disk has such."""
        with files.replacing(self._folder / Path(shard).name) as temporary:
            try:
                os.link(shard, temporary)
            except OSError:
                shutil.copyfile(shard, temporary)

    @staticmethod
    def forget_other_shards(folder: str | Path, shards: Iterable[str | Path]) -> None:
        """Removes what is kept below `folder` of another number of shards than all of `shards`.

        It would take the disk's room twice, and hide what is known by now from `load`.
        """
        names = [Path(shard).name for shard in shards]
        for one in Path(folder).glob("*"):
            kept = [one / name for name in names]
            if all(path.is_file() for path in kept):
                manifest.remove_other_shards(kept)


def embed(
    shard: Mapping[str, str],
    extractor: str | Path,
    device: str = "auto",
    resize: str = "bilinear",
    earlier: Iterable[Embeddings] = (),
    num_threads: int = 1,
) -> Embeddings:
    """Runs the photos of a shard through an extractor.

    A photo is decoded here, and nowhere else before training.

    Args:
        shard: the path of a photo by identity, in the order of identities.
        extractor: path of a .tflite file that maps raw RGB bytes to a quantized embedding.
        device: as `devices.resolve_device` takes it.
        resize: as `preprocessing.to_pixels` takes it.
        earlier: embeddings made before; those of the same extractor and preprocessing are taken
            over by identity.
        num_threads: how many photos are worked on side by side; each thread decodes a photo and
            runs the network on it, so no more pictures than that are in memory, and results do
            not depend on it.

    Raises:
        UserError: the extractor gives no quantized vector, or a photo is not what it was when it
            was indexed.
    """
    # Importing the library should not need what only the workflow does.
    from tqdm import tqdm

    identity, version = files.sha256(extractor), preprocessing.version(resize)
    vectors, reasons, replaced = _taken_over(earlier, identity, version)
    new = [sha256 for sha256 in shard if sha256 not in vectors and sha256 not in reasons]
    model = Interpreter(extractor, device)
    if model.quantization is None or model.output_dtype not in (np.uint8, np.int8):
        raise UserError(
            f"{extractor} gives {model.output_dtype} values; the Edge TPU needs an extractor "
            "whose embedding is quantized to uint8 or int8."
        )
    at_least = preprocessing.decoded_at_least(model.input_size, resize)
    idle: queue.SimpleQueue[Interpreter] = queue.SimpleQueue()
    idle.put(model)

    def decode(sha256: str) -> tuple[np.ndarray, np.ndarray] | str:
        """Returns the pixels and the perceptual hash of a photo, or why there are none."""
        try:
            photo = open_photo(shard[sha256], sha256, at_least)
        except photos.PhotoError as error:
            return photos.advice(shard[sha256], str(error))
        stretched = preprocessing.stretch(photo, model.input_size, resize)
        # What was averaged to the network's size needs no averaging from all pixels again.
        picture = photo if resize == "nearest" else stretched
        return np.asarray(stretched), copies.perceptual_hash(picture)

    def decode_and_run(sha256: str) -> _Vector | str:
        decoded = decode(sha256)
        if isinstance(decoded, str):
            return decoded
        try:
            free = idle.get(block=False)
        except queue.Empty:
            free = Interpreter(extractor, device)
        try:
            return free.run(decoded[0]), decoded[1]
        finally:
            idle.put(free)

    found: Iterator[_Vector | str]
    if model.on_edge_tpu:
        # There is one, which is fed from here with what threads have decoded.
        found = (
            decoded if isinstance(decoded, str) else (model.run(decoded[0]), decoded[1])
            for decoded in _in_threads(decode, new, num_threads)
        )
    else:
        # Every thread has a network of its own.
        found = _in_threads(decode_and_run, new, num_threads)
    for sha256, result in zip(
        new, tqdm(found, "Embedding photos", len(new), unit="photo", disable=None), strict=True
    ):
        if isinstance(result, str):
            reasons[sha256] = result
        else:
            vectors[sha256] = result
    log.info("%d photos embedded, %d taken over", len(new), len(shard) - len(new))
    for text in replaced:
        log.info("All photos are embedded again: %s", text)
    good = [sha256 for sha256 in shard if sha256 in vectors]
    bad = [sha256 for sha256 in shard if sha256 in reasons]
    embeddings = np.empty((len(good), model.output_size), model.output_dtype)
    hashes = np.empty((len(good), copies.HASH_BYTES), np.uint8)
    for i, sha256 in enumerate(good):
        embeddings[i], hashes[i] = vectors[sha256]
    return Embeddings(
        embeddings,
        model.quantization.scale,
        model.quantization.zero_point,
        _bytes(good),
        hashes,
        identity,
        version,
        _bytes(bad),
        # An empty list would become float64.
        np.array([reasons[sha256] for sha256 in bad], np.str_),
    )


def _taken_over(
    earlier: Iterable[Embeddings], extractor: str, version: str
) -> tuple[dict[str, _Vector], dict[str, str], list[str]]:
    """Returns vectors and reasons by identity that hold on, and why others do not."""
    vectors: dict[str, _Vector] = {}
    reasons: dict[str, str] = {}
    replaced = set()
    for one in earlier:
        if one.extractor != extractor:
            replaced.add("the extractor is another one")
        elif one.preprocessing != version:
            replaced.add(f"the preprocessing was {one.preprocessing!r} and is {version!r}")
        else:
            known = zip(one.embeddings, one.hashes, strict=True)
            vectors |= zip(one.photos.astype(str).tolist(), known, strict=True)
            reasons |= one.why_undecodable()
    return vectors, reasons, sorted(replaced)


def _in_threads(
    function: Callable[[str], Any], arguments: Sequence[str], workers: int
) -> Iterator[Any]:
    """Yields function(argument) in the order of the arguments; the first error ends all.

    Threads go no further ahead than some arguments, so that what they give does not pile up.
    """
    waiting: collections.deque[Future[Any]] = collections.deque()
    # Reading a photo sets warnings aside, which is not safe in threads: one may leave them so.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        try:
            for argument in arguments:
                waiting.append(pool.submit(function, argument))
                if len(waiting) > _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def open_photo(path: str, sha256: str, at_least: int | None = None) -> Image.Image:
    """Reads a photo that is listed with its identity, as `photos.read_photo` does.

    Raises:
        UserError: it is not what it was when it was listed.
        PhotoError: it cannot be decoded.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} was there a moment ago: {error.strerror}. Run again.") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"{path} has changed since the photos were indexed. Run again.")
    return photos.read_photo(content, at_least)


def _bytes(identities: Iterable[str]) -> np.ndarray:
    return np.array(list(identities), "S64")
