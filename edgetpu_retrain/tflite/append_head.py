"""Append a trained layer to an embedding extractor."""

import logging

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.head import Head
from edgetpu_retrain.tflite.l2_normalization import append_l2_normalization
from edgetpu_retrain.tflite.model import Model, TensorSpec
from edgetpu_retrain.tflite.none_gate import add_gate
from edgetpu_retrain.tflite.quantized_layer import add_layer, range_quantization

log = logging.getLogger(__name__)

# The name of the layer's output.
LOGITS = "head/logits"

# TFLite's quantized SOFTMAX requires this output scale; the highest score is 255/256.
_SOFTMAX_SCALE = 1 / 256
# With a smaller scale, interpreters reject the ratio of scales (limit 2 ** 32). A layer with such
# small logits scores all photos alike anyway.
_MIN_LOGIT_SCALE = 1e-4


def append_head(extractor: Model, head: Head) -> Model:
    """Appends FULLY_CONNECTED, RESHAPE (if the embedding has 4 dimensions) and SOFTMAX.

    If the head takes L2-normalized embeddings, they are preceded by L2_NORMALIZATION. The operators
    of a gate (`none_gate`) follow.

    The extractor's own operators, including compiled ones, are unchanged. A uint8 embedding gets a
    uint8 layer with asymmetric weights, as in PyCoral's models; an int8 embedding gets a layer that
    follows TFLite's int8 specification
    (https://ai.google.dev/edge/litert/models/quantization_spec) and a final QUANTIZE. Both output
    uint8 scores with scale 1/256.

    Args:
        extractor: a model with one subgraph and one output, a quantized embedding of shape
            [1, 1, 1, D] or [1, D]; it is not changed.
        head: the layer for D-dimensional embeddings. Its logit range becomes the quantization range
            of the layer's output. Without one, the range covers every logit that the embedding's
            dtype allows. That is several times the range that photos reach, so classes with
            similar logits get the same score.

    Returns:
        The classifier.

    Raises:
        UserError: the extractor does not have such an output, or D differs between the two.
    """
    _check(extractor, head)
    if head.normalized:
        extractor = append_l2_normalization(extractor)
    embedding, scale, zero_point = _check(extractor, head)
    num_classes = head.weights.shape[1]
    is_uint8 = embedding.dtype == "uint8"
    quantization = _logit_quantization(head, embedding.dtype, scale, zero_point)
    shape = [1, num_classes]

    model = extractor.copy()
    source = int(model.subgraph.outputs[0])
    logits = add_layer(model, source, head.weights, head.biases, LOGITS, quantization)
    if len(embedding.shape) == 4:
        options = schema.ReshapeOptionsT()
        options.newShape = shape
        flat = model.add_tensor("head/logits_2d", shape, embedding.dtype, *quantization)
        new_shape = model.add_constant("head/shape", np.array(shape, np.int32))
        model.add_operator("RESHAPE", [logits, new_shape], flat, options)
        logits = flat
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    lowest = 0 if is_uint8 else -128
    scores = model.add_tensor("head/scores", shape, embedding.dtype, _SOFTMAX_SCALE, lowest)
    model.add_operator("SOFTMAX", [logits], scores, options, version=1 if is_uint8 else 2)
    if head.gate is not None:
        scores = add_gate(model, source, scores, head.gate, head.classes[:num_classes])
    if not is_uint8:
        int8_scores = scores
        shape = list(model.tensor(scores).shape)
        scores = model.add_tensor("head/scores_uint8", shape, "uint8", _SOFTMAX_SCALE, 0)
        model.add_operator("QUANTIZE", [int8_scores], scores, schema.QuantizeOptionsT())
    model.subgraph.outputs = [scores]
    for entry in model.signature_entries("outputs"):
        entry.tensorIndex = scores
    return model


def _check(extractor: Model, head: Head) -> tuple[TensorSpec, float, int]:
    """Returns the embedding, its scale and zero point; raises if no head can be appended."""
    if len(extractor.unpacked.subgraphs) != 1:
        count = len(extractor.unpacked.subgraphs)
        raise extractor.error(f"has {count} subgraphs; an extractor has one.")
    if len(extractor.outputs) != 1:
        count = len(extractor.outputs)
        raise extractor.error(f"has {count} outputs; an extractor has one.")
    (embedding,) = extractor.outputs
    if embedding.dtype not in ("uint8", "int8"):
        raise extractor.error(
            f"outputs {embedding.name!r} as {embedding.dtype}; an embedding must be quantized to "
            "uint8 or int8."
        )
    if embedding.scale is None or embedding.zero_point is None:
        raise extractor.error(f"outputs {embedding.name!r}, which has no scale and zero point.")
    width = head.weights.shape[0]
    if embedding.shape not in ((1, width), (1, 1, 1, width)):
        raise extractor.error(
            f"outputs {embedding.name!r} with shape {list(embedding.shape)}; the head was trained "
            f"on embeddings with {width} values."
        )
    return embedding, embedding.scale, embedding.zero_point


def _logit_quantization(head: Head, dtype: str, scale: float, zero_point: int) -> tuple[float, int]:
    limits = np.iinfo(dtype)
    if head.logit_range is not None:
        low, high = head.logit_range
    else:
        log.warning("The range of the layer's logits is unknown; its scores may be coarse.")
        extremes = [scale * (limit - zero_point) for limit in (limits.min, limits.max)]
        products = np.stack([extreme * head.weights for extreme in extremes])
        low = float((products.min(axis=0).sum(axis=0) + head.biases).min())
        high = float((products.max(axis=0).sum(axis=0) + head.biases).max())
    return range_quantization(low, high, limits.min, limits.max, _MIN_LOGIT_SCALE)
