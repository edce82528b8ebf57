"""Find out whether a mirrored photo still shows its class.

A mirrored flower is a flower, but a mirrored b is a d, and a left hand becomes a right one.
"""

import logging
from pathlib import Path

import numpy as np

from edgetpu_retrain.embeddings.embed import InterpreterPool, in_threads
from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.head import Head
from edgetpu_retrain.photos import memory, preprocessing
from edgetpu_retrain.photos.decode import read_content, read_photo
from edgetpu_retrain.runtime.interpreter import Interpreter

log = logging.getLogger(__name__)

# More photos would hardly tell more.
_MAX_PHOTOS = 200
# A chance of 5 % that photos count as one-sided that are not.
_SIGNIFICANCE = 0.05


def may_be_mirrored(
    extractor: str | Path,
    labelled: LabelledEmbeddings,
    head: Head,
    resize: str,
    num_threads: int,
) -> bool:
    """Returns whether mirrored photos are classified as well as the photos themselves.

    This is McNemar's exact test (1947), one-sided, on at most 200 photos.

    Args:
        extractor: path of the extractor for the CPU.
        labelled: photos that `head` was not trained on.
        head: the last layer.
        resize: as for `preprocessing.to_pixels`.
        num_threads: number of threads; the result does not depend on it.
    """
    # Imported here because only the workflow depends on it.
    import scipy.stats

    chosen = np.unique(np.linspace(0, len(labelled) - 1, _MAX_PHOTOS).astype(int))
    pool = InterpreterPool(lambda: Interpreter(extractor, "cpu"))
    with pool.borrow() as interpreter:
        size = interpreter.input_size
    min_side = preprocessing.min_decoded_side(size, resize)

    def embed_mirrored(line: int) -> np.ndarray:
        sha256 = labelled.identities[labelled.rows[line]]
        content = read_content(labelled.paths[line], sha256)
        with memory.for_photo(content, min_side):
            pixels = preprocessing.to_pixels(read_photo(content, min_side), size, resize)
        with pool.borrow() as interpreter:
            return interpreter.run(np.ascontiguousarray(pixels[:, ::-1]))

    vectors = np.stack(list(in_threads(embed_mirrored, chosen.tolist(), num_threads)))
    labels = labelled.labels[chosen]
    upright = head.logits(labelled[chosen]).argmax(axis=1) == labels
    mirrored = head.logits(labelled.quantization.dequantize(vectors)).argmax(axis=1) == labels
    lost, gained = int(np.sum(upright & ~mirrored)), int(np.sum(mirrored & ~upright))
    if not lost:
        return True
    test = scipy.stats.binomtest(lost, lost + gained, alternative="greater")
    allowed = bool(test.pvalue >= _SIGNIFICANCE)
    log.info(
        "Of %d photos, %d are correct as they are and %d mirrored, so views are %s.",
        len(chosen),
        np.sum(upright),
        np.sum(mirrored),
        "mirrored, too" if allowed else "not mirrored",
    )
    return allowed
