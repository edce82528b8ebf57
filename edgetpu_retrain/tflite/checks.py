"""What an extractor must be, for this project and for the Edge TPU compiler."""

from edgetpu_retrain.tflite.edgetpu_twin import Comparison, compare
from edgetpu_retrain.tflite.model import CUSTOM_OP, Model

# The compiler is built on TensorFlow 2.5's kernels; these operators' versions were raised later.
_FIRST_UNKNOWN_VERSIONS = {"CONV_2D": 6, "EXP": 2, "QUANTIZE": 3, "TRANSPOSE_CONV": 4}
_SCORES = {"SOFTMAX", "LOGISTIC"}
_PASSED_ON = {"RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE"}


def check_extractor(model: Model, width: int | None = None) -> None:
    """Checks that a model maps one RGB image to one quantized vector, quantized throughout.

    Args:
        model: an extractor, compiled or not.
        width: how wide its embedding should be, if that is known.

    Raises:
        UserError: it is something else.
    """
    for what, found in (("input", model.inputs), ("output", model.outputs)):
        if len(found) != 1:
            raise model.error(f"has {len(found)} {what}s; an extractor has one.")
        if found[0].dtype not in ("uint8", "int8") or found[0].scale is None:
            raise model.error(
                f"has an {what} of {found[0].dtype}; the Edge TPU needs one quantized to uint8 or "
                f"int8 (TFLiteConverter's inference_{what}_type)."
            )
    (image,), (embedding,) = model.inputs, model.outputs
    if len(image.shape) != 4 or image.shape[0] != 1 or image.shape[3] != 3:
        raise model.error(
            f"takes the shape {list(image.shape)}; expected one RGB image, [1, height, width, 3]."
        )
    floats = [
        operator.name
        for operator in model.operators
        if any(model.tensor(i).dtype == "float32" for i in operator.outputs)
    ]
    if floats:
        raise model.error(
            f"is quantized only in part: {', '.join(floats)} would compute in float. Take a "
            "network that is quantized throughout."
        )
    if scores := _gives_scores(model):
        raise model.error(
            f"is a whole classifier (it ends in {scores}), not an extractor. Give it as tflite "
            "instead of extractor, and its last layer is cut off."
        )
    if embedding.shape[:-1] not in ((1,), (1, 1, 1)):
        raise model.error(
            f"gives the shape {list(embedding.shape)}; an embedding is a vector, [1, D] or "
            "[1, 1, 1, D]. Check the backbone's tensor."
        )
    check_width(model, width)


def check_width(model: Model, width: int | None) -> None:
    """Raises a UserError where an extractor's embedding is not `width` wide, if that is known."""
    found = model.outputs[0].shape[-1]
    if width is not None and found != width:
        raise model.error(
            f"gives embeddings {found} wide; the backbone's entry says {width}. Check its tensor "
            "and width."
        )


def _gives_scores(model: Model) -> str:
    """Returns the name of the operator that makes scores of logits at the end, or nothing."""
    for operator in reversed(model.operators):
        if operator.name in _SCORES:
            return operator.name
        if operator.name not in _PASSED_ON:
            break
    return ""


def check_versions(model: Model) -> None:
    """Raises a UserError where the compiler would not know an operator's version."""
    for operator in model.operators:
        first = _FIRST_UNKNOWN_VERSIONS.get(operator.name, operator.version + 1)
        if operator.version >= first:
            raise model.error(
                f"holds {operator.name} in version {operator.version}; the Edge TPU compiler "
                f"knows it up to version {first - 1}. Convert the network with an older "
                "TensorFlow (2.8 or before)."
            )


def check_compiled(model: Model, allow_cpu_operators: bool = False) -> None:
    """Raises a UserError where a model is not compiled for the Edge TPU, or only in part.

    Args:
        model: of any kind.
        allow_cpu_operators: let it hold operators for the CPU as well.
    """
    if model.packages == 0:
        raise model.error(
            "is not compiled for the Edge TPU: it holds no operator with a DarwiNN package. Was it "
            "made by the real edgetpu_compiler? The package edgecompiler on PyPI is not."
        )
    names = [operator.name for operator in model.operators]
    if names.count(CUSTOM_OP) < len(names) and not allow_cpu_operators:
        raise model.error(
            f"is compiled only in part: its operators are {', '.join(names)}. Take another "
            "backbone, or set compiler.allow_cpu_operators in the config."
        )


def check_twin(extractor: Model, compiled: Model) -> None:
    """Raises a UserError where a compiled model is of another network than its twin for the CPU."""
    same = [
        [(spec.shape, spec.dtype, spec.scale, spec.zero_point) for spec in specs]
        for specs in (
            [*extractor.inputs, *extractor.outputs],
            [*compiled.inputs, *compiled.outputs],
        )
    ]
    if same[0] != same[1]:
        raise compiled.error(
            f"takes or gives something else than {extractor.source}, its twin for the CPU:\n"
            f"  {' -> '.join(map(str, [*compiled.inputs, *compiled.outputs]))}\n"
            f"  {' -> '.join(map(str, [*extractor.inputs, *extractor.outputs]))}\n"
            "(or another quantization). Compile the extractor that the backbone names."
        )


def check_weights(extractor: Model, compiled: Model) -> Comparison:
    """Checks that a compiled model holds the weights of its twin for the CPU, as far as is known.

    Args:
        extractor: for the CPU.
        compiled: one that `check_twin` accepts.

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
