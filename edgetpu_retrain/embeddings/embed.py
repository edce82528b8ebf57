"""Compute the embeddings of the photos of a shard."""

import collections
import contextlib
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
from edgetpu_retrain.photos import memory, perceptual_hash, preprocessing
from edgetpu_retrain.photos.decode import PhotoError, read_content, read_photo, with_advice
from edgetpu_retrain.runtime.interpreter import Interpreter

log = logging.getLogger(__name__)

# Photos per thread that are decoded ahead.
_AHEAD = 4
# The embedding and the perceptual hash of a photo.
_EmbeddingAndHash = tuple[np.ndarray, np.ndarray]


def embed(
    shard: Mapping[str, str],
    extractor: str | Path,
    device: str = "auto",
    resize: str = "bilinear",
    earlier: Iterable[Embeddings] = (),
    num_threads: int = 1,
) -> Embeddings:
    """Computes the embeddings and perceptual hashes of the photos of a shard.

    This is the only stage before training that decodes the photos.

    Args:
        shard: paths of photos by identity, sorted by identity.
        extractor: path of a .tflite file that maps raw RGB bytes to a quantized embedding.
        device: as in `devices.resolve_device`.
        resize: as in `preprocessing.to_pixels`.
        earlier: existing embeddings; they are reused by identity if extractor and preprocessing
            are the same.
        num_threads: number of threads. On the CPU, each thread decodes a photo and runs the
            network on it; an Edge TPU is fed by threads that decode. The result does not depend
            on it.

    Returns:
        The embeddings, and the reason for each photo that cannot be decoded.

    Raises:
        UserError: the extractor's output is not quantized, or a photo changed after it was indexed.
    """
    # Imported here because only the workflow depends on it.
    from tqdm import tqdm

    identity, version = files.sha256(extractor), preprocessing.version(resize)
    vectors, reasons, outdated = _reusable(earlier, identity, version)
    new = [sha256 for sha256 in shard if sha256 not in vectors and sha256 not in reasons]
    model = Interpreter(extractor, device)
    if model.quantization is None or model.output_dtype not in (np.uint8, np.int8):
        raise UserError(
            f"{extractor} has {model.output_dtype} embeddings; the Edge TPU needs an extractor "
            "with embeddings quantized to uint8 or int8."
        )
    min_side = preprocessing.min_decoded_side(model.input_size, resize)
    pool = InterpreterPool(lambda: Interpreter(extractor, device), [model])

    def decode(sha256: str) -> tuple[np.ndarray, np.ndarray] | str:
        """Returns the pixels and the perceptual hash of a photo, or why it cannot be decoded."""
        content = read_content(shard[sha256], sha256)
        with memory.for_photo(content, min_side):
            try:
                photo = read_photo(content, min_side)
            except PhotoError as error:
                return with_advice(shard[sha256], str(error))
            stretched = preprocessing.stretch(photo, model.input_size, resize)
            # Hashing the already averaged image is faster than averaging all pixels again.
            picture = photo if resize == "nearest" else stretched
            return np.asarray(stretched), perceptual_hash.perceptual_hash(picture)

    def decode_and_run(sha256: str) -> _EmbeddingAndHash | str:
        decoded = decode(sha256)
        if isinstance(decoded, str):
            return decoded
        with pool.borrow() as interpreter:
            return interpreter.run(decoded[0]), decoded[1]

    results: Iterator[_EmbeddingAndHash | str]
    if model.on_edge_tpu:
        # Only this thread uses the Edge TPU; the other threads decode.
        results = (
            decoded if isinstance(decoded, str) else (model.run(decoded[0]), decoded[1])
            for decoded in in_threads(decode, new, num_threads)
        )
    else:
        # Each thread has its own interpreter.
        results = in_threads(decode_and_run, new, num_threads)
    for sha256, result in zip(
        new, tqdm(results, "Embedding photos", len(new), unit="photo", disable=None), strict=True
    ):
        if isinstance(result, str):
            reasons[sha256] = result
        else:
            vectors[sha256] = result
    log.info("Embeddings: %d computed, %d reused", len(new), len(shard) - len(new))
    for reason in outdated:
        log.info("Existing embeddings are not reused: %s", reason)
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
        _identity_array(good),
        hashes,
        identity,
        version,
        _identity_array(bad),
        # Without the dtype, an empty list would become float64.
        np.array([reasons[sha256] for sha256 in bad], np.str_),
    )


def _reusable(
    earlier: Iterable[Embeddings], extractor: str, version: str
) -> tuple[dict[str, _EmbeddingAndHash], dict[str, str], list[str]]:
    """Returns the reusable results of earlier runs, and why others cannot be reused.

    The results are embeddings with hashes, and the reasons for undecodable photos, by identity.
    """
    vectors: dict[str, _EmbeddingAndHash] = {}
    reasons: dict[str, str] = {}
    outdated = set()
    for embeddings in earlier:
        if embeddings.extractor != extractor:
            outdated.add("the extractor changed")
        elif embeddings.preprocessing != version:
            outdated.add(
                f"the preprocessing changed from {embeddings.preprocessing!r} to {version!r}"
            )
        else:
            known = zip(embeddings.embeddings, embeddings.hashes, strict=True)
            vectors |= zip(embeddings.photos.astype(str).tolist(), known, strict=True)
            reasons |= embeddings.undecodable_reasons()
    return vectors, reasons, sorted(outdated)


class InterpreterPool:
    """Interpreters of one model, each of which is used by one thread at a time."""

    def __init__(self, load: Callable[[], Interpreter], loaded: Iterable[Interpreter] = ()) -> None:
        """Starts with the loaded interpreters; `load` makes another one when all are in use."""
        self._load = load
        self._idle: queue.SimpleQueue[Interpreter] = queue.SimpleQueue()
        for interpreter in loaded:
            self._idle.put(interpreter)

    @contextlib.contextmanager
    def borrow(self) -> Iterator[Interpreter]:
        """Yields an interpreter that no other thread uses."""
        try:
            interpreter = self._idle.get(block=False)
        except queue.Empty:
            interpreter = self._load()
        try:
            yield interpreter
        finally:
            self._idle.put(interpreter)


def in_threads(
    function: Callable[[Any], Any], arguments: Sequence[Any], workers: int
) -> Iterator[Any]:
    """Yields function(argument) in the order of the arguments; the first error stops all threads.

    Threads work only a few arguments ahead, which limits the results in memory.
    """
    pending: collections.deque[Future[Any]] = collections.deque()
    # Decoding a photo changes the warning filters, which is not thread-safe, so they are restored.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        try:
            for argument in arguments:
                pending.append(pool.submit(function, argument))
                if len(pending) > _AHEAD * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _identity_array(identities: Iterable[str]) -> np.ndarray:
    return np.array(list(identities), "S64")
