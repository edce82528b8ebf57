"""Make an embedding extractor of any network, and check what was made."""

from pathlib import Path

from edgetpu_retrain import files, frozen_graph, tflite_model
from edgetpu_retrain.errors import UserError


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
        graph: likewise.
        output: likewise.
        input_array: likewise.
        output_array: likewise.
        mean: likewise.
        std: likewise.
        width: how wide the embedding should be, if that is known.

    Raises:
        UserError: it cannot be cut, or what comes out is not what was expected.
    """
    with files.replacing(output) as temporary:
        frozen_graph.truncate(graph, temporary, input_array, output_array, mean, std)
        check(graph, temporary.read_bytes(), width)


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
