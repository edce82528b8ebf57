"""Take a classifier apart again: the layer that `append_head` appended, and what is before it."""

import numpy as np

from edgetpu_retrain.head import Head
from edgetpu_retrain.tflite.append_head import LOGITS
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import drop_unused

_L2_NORMALIZATION = "L2_NORMALIZATION"


def last_layer(classifier: Model) -> Model:
    """Returns the layer that `append_head` added, and all operators after it, as a separate model.

    In a file without its name, that is the last FULLY_CONNECTED. An L2_NORMALIZATION directly
    before it is included.

    The input of the model is the quantized embedding. It contains no operators for the Edge TPU,
    so it runs on any CPU. For the embedding of a photo, it gives exactly the scores that the whole
    classifier gives for the photo.

    Args:
        classifier: result of `append_head`; it is not changed.

    Raises:
        UserError: the model has no fully connected layer.
    """
    first = _first_operator(classifier)
    layer = classifier.copy()
    subgraph = layer.subgraph
    subgraph.operators = subgraph.operators[first:]
    subgraph.inputs = [int(subgraph.operators[0].inputs[0])]
    # The signatures refer to the original input, which is removed.
    layer.unpacked.signatureDefs = []
    drop_unused(layer)
    return layer


def without_head(classifier: Model) -> Model:
    """Returns the extractor that a head was appended to.

    Its operators, including compiled ones, are unchanged.

    Args:
        classifier: result of `append_head`; it is not changed.

    Raises:
        UserError: the model has no fully connected layer, or nothing before it.
    """
    first = _first_operator(classifier)
    if not first:
        raise classifier.error(f"has no operators before its last layer.\n{classifier.tail()}")
    extractor = classifier.copy()
    subgraph = extractor.subgraph
    embedding = int(subgraph.operators[first].inputs[0])
    subgraph.operators = subgraph.operators[:first]
    subgraph.outputs = [embedding]
    for entry in extractor.signature_entries("outputs"):
        entry.tensorIndex = embedding
    drop_unused(extractor)
    return extractor


def read_head(classifier: Model, classes: tuple[str, ...] = ()) -> Head:
    """Returns the head that was appended, with the dequantized values that the file has.

    Appending it to the extractor again gives the same values.

    Args:
        classifier: result of `append_head`.
        classes: the names of its classes.

    Raises:
        UserError: the model has no fully connected layer, or a gate follows it.
    """
    operators = classifier.operators[_first_operator(classifier) :]
    if any(operator.name == "LOGISTIC" for operator in operators):
        raise classifier.error(
            "has a class none for other things (none: auto), so its last layer can only be made "
            "again from the embeddings, not changed."
        )
    normalized = operators[0].name == _L2_NORMALIZATION
    layer = operators[1 if normalized else 0]
    weights, biases = (_dequantized(classifier, index) for index in layer.inputs[1:])
    logits = classifier.tensor(layer.outputs[0])
    assert logits.scale is not None and logits.zero_point is not None
    limits = np.iinfo(logits.dtype)
    low, high = (
        logits.scale * (limit - logits.zero_point) for limit in (int(limits.min), int(limits.max))
    )
    return Head(
        weights.T.astype(np.float32),
        biases.astype(np.float32),
        (low, high),
        classes,
        normalized=normalized,
    )


def _dequantized(model: Model, index: int) -> np.ndarray:
    """Returns the real values of a constant, float64."""
    spec, data = model.tensor(index), model.constant(index)
    assert data is not None and spec.scale is not None and spec.zero_point is not None
    values = data.view(spec.dtype).reshape(spec.shape).astype(np.float64)
    return np.asarray(spec.scale * (values - spec.zero_point))


def _first_operator(classifier: Model) -> int:
    """Returns the position of the appended layer, or of an L2_NORMALIZATION before it."""
    names = [operator.name for operator in classifier.operators]
    if "FULLY_CONNECTED" not in names:
        raise classifier.error(f"has no fully connected layer.\n{classifier.tail()}")
    outputs = [classifier.tensor(operator.outputs[0]).name for operator in classifier.operators]
    first = (
        outputs.index(LOGITS)
        if LOGITS in outputs
        else len(names) - 1 - names[::-1].index("FULLY_CONNECTED")
    )
    return first - 1 if _L2_NORMALIZATION in names[first - 1 : first] else first
