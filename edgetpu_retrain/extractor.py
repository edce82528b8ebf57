"""Make an embedding extractor of any network, and check what was made."""

import contextlib
from collections.abc import Iterator
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
    for what, found in (("input", inputs), ("output", outputs)):
        if len(found) != 1:
            raise UserError(f"The extractor made of {source} has {len(found)} {what}s; one is due.")
        if found[0].dtype not in ("uint8", "int8") or found[0].scale is None:
            raise UserError(
                f"The extractor made of {source} has an {what} of {found[0].dtype}; the Edge TPU "
                f"needs one quantized to uint8 or int8 (TFLiteConverter's inference_{what}_type)."
            )
    if floats := tflite_model.float_operators(extractor):
        raise UserError(
            f"The extractor made of {source} is quantized only in part: {', '.join(floats)} would "
            "compute in float. Take a network that is quantized throughout."
        )
    shape = outputs[0].shape
    if shape[:-1] not in ((1,), (1, 1, 1)):
        raise UserError(
            f"The extractor made of {source} gives the shape {list(shape)}; an embedding is a "
            "vector, [1, D] or [1, 1, 1, D]. Check the backbone's tensor."
        )
    if width is not None and shape[-1] != width:
        raise UserError(
            f"The extractor made of {source} gives embeddings {shape[-1]} wide; the backbone's "
            f"entry says {width}. Check its tensor and width."
        )


def check_versions(model: str | Path, content: bytes) -> None:
    """Raises a UserError where the compiler would not know an operator's version."""
    with _about(model):
        versions = tflite_model.operator_versions(content)
    for name, version in versions.items():
        if version >= _FIRST_UNKNOWN_VERSIONS.get(name, version + 1):
            raise UserError(
                f"{model} holds {name} in version {version}; the Edge TPU compiler knows it up to "
                f"version {_FIRST_UNKNOWN_VERSIONS[name] - 1}. Convert the network with an older "
                "TensorFlow (2.8 or before)."
            )


def check_twin(
    extractor: str | Path,
    content: bytes,
    path: str | Path,
    compiled: bytes,
    allow_cpu_operators: bool = False,
) -> None:
    """Raises a UserError where a file is not the extractor compiled for the Edge TPU.

    Args:
        extractor: path of the extractor for the CPU.
        content: its bytes.
        path: path of the compiled one.
        compiled: its bytes.
        allow_cpu_operators: let it hold operators for the CPU as well.
    """
    with _about(path):
        packages = tflite_model.compiled_packages(compiled)
        operators = tflite_model.operators(compiled)
        signatures = tflite_model.signatures(compiled)
    if packages == 0:
        raise UserError(
            f"{path} is not compiled for the Edge TPU: it holds no operator with a DarwiNN "
            "package. Was it made by the real edgetpu_compiler? The package edgecompiler on PyPI "
            "is not."
        )
    if len(operators) > 1 and not allow_cpu_operators:
        raise UserError(
            f"{path} is compiled only in part: its operators are {', '.join(operators)}. Take "
            "another backbone, or set compiler.allow_cpu_operators in the config."
        )
    with _about(extractor):
        expected = tflite_model.signatures(content)
    if signatures != expected:
        raise UserError(f"{path} has other inputs or outputs than {extractor}, its twin.")


@contextlib.contextmanager
def _about(path: str | Path) -> Iterator[None]:
    """Names the file in what reading it raises."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
