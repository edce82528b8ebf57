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
    output = add_l2_normalization(model, int(model.subgraph.outputs[0]), "head/l2_normalized")
    model.subgraph.outputs = [output]
    for entry in model.signature_entries("outputs"):
        entry.tensorIndex = output
    return model


def add_l2_normalization(model: Model, source: int, name: str) -> int:
    """Adds L2_NORMALIZATION after all other operators.

    Args:
        model: the model to change.
        source: index of a uint8 or int8 tensor.
        name: name of the output.

    Returns:
        The index of the output, with the same shape and dtype.
    """
    spec = model.tensor(source)
    is_uint8 = spec.dtype == "uint8"
    zero_point = 128 if is_uint8 else 0
    output = model.add_tensor(name, spec.shape, spec.dtype, _SCALE, zero_point)
    options = schema.L2NormOptionsT()
    model.add_operator("L2_NORMALIZATION", [source], output, options, version=1 if is_uint8 else 2)
    return output
