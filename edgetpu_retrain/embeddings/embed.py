"""Run the photos of a shard through an extractor."""

import collections
import logging
import queue
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.embeddings.shards import Embeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import files
from edgetpu_retrain.photos import perceptual_hash, preprocessing
from edgetpu_retrain.photos.decode import PhotoError, open_photo, with_advice
from edgetpu_retrain.runtime.interpreter import Interpreter

log = logging.getLogger(__name__)

# Photos per thread that may be decoded before they are needed.
_AHEAD = 4
# A photo's embedding and perceptual hash.
_Vector = tuple[np.ndarray, np.ndarray]


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
    min_side = preprocessing.min_decoded_side(model.input_size, resize)
    idle: queue.SimpleQueue[Interpreter] = queue.SimpleQueue()
    idle.put(model)

    def decode(sha256: str) -> tuple[np.ndarray, np.ndarray] | str:
        """Returns the pixels and the perceptual hash of a photo, or why there are none."""
        try:
            photo = open_photo(shard[sha256], sha256, min_side)
        except PhotoError as error:
            return with_advice(shard[sha256], str(error))
        stretched = preprocessing.stretch(photo, model.input_size, resize)
        # What was averaged to the network's size needs no averaging from all pixels again.
        picture = photo if resize == "nearest" else stretched
        return np.asarray(stretched), perceptual_hash.perceptual_hash(picture)

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
    hashes = np.empty((len(good), perceptual_hash.HASH_BYTES), np.uint8)
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
            reasons |= one.undecodable_reasons()
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


def _bytes(identities: Iterable[str]) -> np.ndarray:
    return np.array(list(identities), "S64")
