"""Make an embedding extractor of any network, and check what was made."""

from pathlib import Path

from edgetpu_retrain import files, frozen_graph, tflite_model
from edgetpu_retrain.errors import UserError

# The compiler is built on TensorFlow 2.5's kernels; these operators' versions were raised later.
_FIRST_UNKNOWN_VERSIONS = {"CONV_2D": 6, "EXP": 2, "QUANTIZE": 3, "TRANSPOSE_CONV": 4}


def truncate_graph(
    graph: str | Path,
    output: str | Path,
    input_array: str,
    output_array: str,
    mean: float,
    std: float,
    width: int | None = None,
) -> None:
    """Cuts a frozen graph as `frozen_graph.truncate` does, and checks the extractor.

    Args:
        graph: path of the frozen GraphDef.
        output: where the extractor goes.
        input_array: name of the image tensor.
        output_array: name of the embedding tensor.
        mean: the pixel value that stands for 0.
        std: how many pixel values stand for 1.
        width: how wide the embedding should be, if that is known.

    Raises:
        UserError: it cannot be cut, or what comes out is not what was expected.
    """
    with files.replacing(output) as temporary:
        frozen_graph.truncate(graph, temporary, input_array, output_array, mean, std)
        check(graph, temporary.read_bytes(), width)
        check_versions(graph, temporary.read_bytes())


def truncate_tflite(
    model: str | Path,
    output: str | Path,
    tensor: str | None = None,
    width: int | None = None,
) -> None:
    """Cuts a quantized classifier as `tflite_model.truncate` does, and checks the extractor.

    Args:
        model: path of the classifier's .tflite file.
        output: where the extractor goes.
        tensor: name of the tensor to cut at; by default it is found.
        width: how wide the embedding should be, if that is known.

    Raises:
        UserError: it cannot be cut, or what comes out is not what was expected.
    """
    try:
        extractor = tflite_model.truncate(Path(model).read_bytes(), tensor)
    except UserError as error:
        raise UserError(f"{model} cannot be cut: {error}") from error
    check(model, extractor, width)
    with files.replacing(output) as temporary:
        temporary.write_bytes(extractor)


def check(source: str | Path, extractor: bytes, width: int | None) -> None:
    """Raises a UserError where an extractor does not map an image to a vector of that width."""
    inputs, outputs = tflite_model.signatures(extractor)
    for what, (signature, *others) in (("input", inputs), ("output", outputs)):
        if others or signature.dtype not in ("uint8", "int8") or signature.scale is None:
            raise UserError(
                f"The extractor made of {source} has an {what} of {signature.dtype}; the Edge TPU "
                "needs one quantized to uint8 or int8."
            )
    found = outputs[0].shape[-1]
    if width is not None and found != width:
        raise UserError(
            f"The extractor made of {source} gives embeddings {found} wide; the backbone's entry "
            f"says {width}. Check its tensor and width."
        )


def check_versions(model: str | Path, content: bytes) -> None:
    """Raises a UserError where the compiler would not know an operator's version."""
    for name, version in tflite_model.operator_versions(content).items():
        if version >= _FIRST_UNKNOWN_VERSIONS.get(name, version + 1):
            raise UserError(
                f"{model} holds {name} in version {version}; the Edge TPU compiler knows it up to "
                f"version {_FIRST_UNKNOWN_VERSIONS[name] - 1}. Convert the network with an older "
                "TensorFlow (2.8 or before)."
            )


def check_twin(extractor: str | Path, content: bytes, path: str | Path, compiled: bytes) -> None:
    """Raises a UserError where a file is not the extractor compiled for the Edge TPU.

    Args:
        extractor: path of the extractor for the CPU.
        content: its bytes.
        path: path of the compiled one.
        compiled: its bytes.
    """
    if tflite_model.compiled_packages(compiled) != 1:
        raise UserError(
            f"{path} is not compiled for the Edge TPU: it holds no operator with a DarwiNN "
            "package. Was it made by the real edgetpu_compiler? The package edgecompiler on PyPI "
            "is not."
        )
    if tflite_model.signatures(content) != tflite_model.signatures(compiled):
        raise UserError(f"{path} has other inputs or outputs than {extractor}, its twin.")
