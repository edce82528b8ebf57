"""Check what this project and the Edge TPU compiler require of an extractor."""

import numpy as np

from edgetpu_retrain.tflite.edgetpu_twin import Comparison, compare
from edgetpu_retrain.tflite.image_shape import explain_shape
from edgetpu_retrain.tflite.model import CUSTOM_OP, Model

# The compiler uses TensorFlow 2.5's kernels. These operator versions are newer.
_FIRST_UNSUPPORTED_VERSIONS = {"CONV_2D": 6, "EXP": 2, "QUANTIZE": 3, "TRANSPOSE_CONV": 4}
# An embedding of MobileNetV2 without pooling has 62,720 values.
_MAX_WIDTH = 1 << 16
_SCORE_OPERATORS = {"SOFTMAX", "LOGISTIC"}
_AFTER_SCORES = {"RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE"}


def check_extractor(model: Model, width: int | None = None) -> None:
    """Checks that a model maps one RGB image to one vector and is fully quantized.

    Args:
        model: an extractor, compiled or not.
        width: expected number of values in the embedding, if known.

    Raises:
        UserError: the model is not such an extractor.
    """
    for kind, specs in (("input", model.inputs), ("output", model.outputs)):
        if len(specs) != 1:
            raise model.error(f"has {len(specs)} {kind}s; an extractor has one.")
        if specs[0].dtype not in ("uint8", "int8") or specs[0].scale is None:
            raise model.error(
                f"has an {kind} of type {specs[0].dtype}; the Edge TPU needs one quantized to "
                f"uint8 or int8 (TFLiteConverter's inference_{kind}_type)."
            )
    (image,), (embedding,) = model.inputs, model.outputs
    if reason := explain_shape(image.shape):
        raise model.error(f"{reason}.")
    if image.shape[0] != 1 or image.shape[3] != 3:
        raise model.error(
            f"has an input of shape {list(image.shape)}; an extractor takes one RGB image, "
            "[1, height, width, 3]."
        )
    floats = [
        operator.name
        for operator in model.operators
        if any(model.tensor(i).dtype == "float32" for i in operator.outputs)
    ]
    if floats:
        raise model.error(
            f"is only partly quantized: {', '.join(floats)} would compute in float. Use a "
            "fully quantized network."
        )
    if operator := _score_operator(model):
        raise model.error(
            f"is a whole classifier (it ends in {operator}), not an extractor. Give it as tflite "
            "instead of extractor, and its last layer is cut off."
        )
    if embedding.shape[:-1] not in ((1,), (1, 1, 1)):
        raise model.error(
            f"has an output of shape {list(embedding.shape)}; an embedding is a vector, [1, D] or "
            "[1, 1, 1, D]. Check the backbone's tensor."
        )
    check_width(model, width)
    check_scales(model)


def check_scales(model: Model) -> None:
    """Raises a UserError if a scale of a model's tensors is not a positive number."""
    for index in range(len(model.subgraph.tensors)):
        scales = model.scales(index)
        if len(scales) and not (np.isfinite(scales).all() and (scales > 0).all()):
            raise model.error(
                f"has the tensor {model.tensor(index).name!r} with a scale of {scales.min():g}, so "
                "its values mean nothing. Likely causes: weights that are not numbers (NaN), or "
                "calibration on blank images. Quantize the network again."
            )


def check_width(model: Model, width: int | None) -> None:
    """Raises a UserError unless the embedding has `width` values; None accepts up to 65,536."""
    actual = model.outputs[0].shape[-1]
    if actual > _MAX_WIDTH:
        raise model.error(
            f"has embeddings with {actual} values; at most {_MAX_WIDTH} are supported. So many "
            "come from a Flatten layer: build the network with GlobalAveragePooling2D instead, or "
            "set the backbone's tensor to a pooling layer's output."
        )
    if width is not None and actual != width:
        raise model.error(
            f"has embeddings with {actual} values; the backbone's width is {width}. Check the "
            "backbone's tensor and width."
        )


def _score_operator(model: Model) -> str:
    """Returns the name of the final operator that turns logits into scores, or ""."""
    for operator in reversed(model.operators):
        if operator.name in _SCORE_OPERATORS:
            return operator.name
        if operator.name not in _AFTER_SCORES:
            break
    return ""


def check_versions(model: Model) -> None:
    """Raises a UserError if the Edge TPU compiler does not support an operator's version."""
    for operator in model.operators:
        unsupported = _FIRST_UNSUPPORTED_VERSIONS.get(operator.name, operator.version + 1)
        if operator.version >= unsupported:
            raise model.error(
                f"contains {operator.name} in version {operator.version}; the Edge TPU compiler "
                f"supports it up to version {unsupported - 1}. Convert the network with "
                "TensorFlow 2.8 or older."
            )


def check_compiled(model: Model, allow_cpu_operators: bool = False) -> None:
    """Raises a UserError if a model is not, or only partly, compiled for the Edge TPU.

    Args:
        model: any model.
        allow_cpu_operators: accept a partly compiled model.
    """
    if model.darwinn_packages == 0:
        raise model.error(
            "is not compiled for the Edge TPU: it has no operator with a DarwiNN package. Compile "
            "it with Coral's edgetpu_compiler; the package edgecompiler on PyPI is not the same."
        )
    names = [operator.name for operator in model.operators]
    if names.count(CUSTOM_OP) < len(names) and not allow_cpu_operators:
        raise model.error(
            f"is only partly compiled: its operators are {', '.join(names)}. Use another "
            "backbone, or set compiler.allow_cpu_operators in the config."
        )


def check_same_interface(extractor: Model, compiled: Model) -> None:
    """Raises a UserError if a compiled model and its CPU model differ in input or output.

    Shape, dtype, scale and zero point are compared.
    """
    cpu_specs = [*extractor.inputs, *extractor.outputs]
    compiled_specs = [*compiled.inputs, *compiled.outputs]
    expected, actual = (
        [(spec.shape, spec.dtype, spec.scale, spec.zero_point) for spec in specs]
        for specs in (cpu_specs, compiled_specs)
    )
    if expected != actual:
        raise compiled.error(
            f"differs in input, output or quantization from {extractor.source}, the CPU model:\n"
            f"  {' -> '.join(map(str, compiled_specs))}\n"
            f"  {' -> '.join(map(str, cpu_specs))}\n"
            f"Compile {extractor.source}."
        )


def check_weights(extractor: Model, compiled: Model) -> Comparison:
    """Checks that a compiled model holds the weights of its twin for the CPU, as far as is known.

    Args:
        extractor: for the CPU.
        compiled: one that `check_same_interface` accepts.

    Returns:
        How much was compared.

    Raises:
        UserError: a layer has other weights, or one of the files is damaged.
    """
    comparison = compare(extractor, compiled)
    if comparison.differs is not None:
        raise compiled.error(
            f"{comparison}. It should hold those of {extractor.source}, its twin for the CPU: "
            "compile the extractor that the backbone names."
        )
    return comparison
