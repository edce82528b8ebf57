"""Scale a network's embedding to length 1."""

from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.tflite.model import Model

# TFLite's L2_NORMALIZATION gives quantized values of -1 to 1 in these steps only.
_SCALE = 1 / 128


def append_l2_normalization(extractor: Model) -> Model:
    """Appends L2_NORMALIZATION; everything in front stays as it is, compiled operators included.

    Args:
        extractor: a model with one subgraph, whose one output is a quantized embedding; it stays
            as it is.

    Returns:
        A model that gives the embedding scaled to length 1, in the same shape and dtype.
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
