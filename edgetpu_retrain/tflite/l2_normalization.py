"""Append L2 normalization to an extractor."""

from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.tflite.model import Model

# TFLite's quantized L2_NORMALIZATION requires this output scale.
_SCALE = 1 / 128


def append_l2_normalization(extractor: Model) -> Model:
    """Appends L2_NORMALIZATION; all other operators, including compiled ones, are unchanged.

    Args:
        extractor: a model with one subgraph and one output, a uint8 or int8 embedding; it is not
            changed.

    Returns:
        A model whose output is the embedding scaled to unit L2 norm, with the same shape and dtype.
    """
    model = extractor.copy()
    (index,) = model.subgraph.outputs
    embedding = model.tensor(int(index))
    is_uint8 = embedding.dtype == "uint8"
    output = model.add_tensor(
        "head/l2_normalized", embedding.shape, embedding.dtype, _SCALE, 128 if is_uint8 else 0
    )
    options = schema.L2NormOptionsT()
    model.add_operator(
        "L2_NORMALIZATION", [int(index)], output, options, version=1 if is_uint8 else 2
    )
    model.subgraph.outputs = [output]
    for entry in model.signature_entries("outputs"):
        entry.tensorIndex = output
    return model
