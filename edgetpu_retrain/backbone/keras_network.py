"""Convert a Keras model or a SavedModel to a float .tflite file, with TensorFlow's converter.

TensorFlow runs in a separate process:

    python -m edgetpu_retrain.backbone.keras_network NETWORK OUTPUT
"""

import importlib.util
import json
import re
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from edgetpu_retrain.backbone import legacy_keras, tensorflow_process, unsafe_operators
from edgetpu_retrain.errors import UserError, how_to_install
from edgetpu_retrain.io import files
from edgetpu_retrain.tflite.image_shape import explain_shape

_HDF5 = b"\x89HDF\r\n\x1a\n"
_USER_ERROR = 3
_ANY_SIZE = (
    "has an input of variable size, but the Edge TPU needs a fixed size. Build the network for "
    "one size, as in keras.Input((224, 224, 3)), load the weights into it, and save it again"
)


def convert(network: str | Path, output: str | Path) -> None:
    """Converts a network, with a batch of one image as its input.

    Args:
        network: path of a file saved by Keras (.keras or .h5), or of a SavedModel's folder.
        output: path of the .tflite file.

    Raises:
        UserError: the network is of another kind, cannot be loaded or converted, or its input is
            not one image of a fixed size.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"{network} is converted with TensorFlow, which is not installed. "
            f"{how_to_install('tensorflow')}"
        )
    with files.replacing(output) as temporary:
        command = [sys.executable, "-m", __name__, str(network), str(temporary)]
        process = tensorflow_process.run(command)
        if process.returncode == _USER_ERROR:
            raise UserError(f"{network} {process.stdout.strip().splitlines()[-1]}.")
        if process.returncode or not temporary.is_file():
            raise UserError(
                f"TensorFlow could not convert {network} to .tflite:\n"
                f"{tensorflow_process.error_excerpt(process.stderr)}"
            )


class _UnfitError(Exception):
    """A network cannot be used; the text continues a sentence that begins with its path."""


def _load_keras(path: Path) -> Any:
    """Loads a Keras file with any file name extension.

    Raises:
        _UnfitError: it is not a Keras file, or Keras cannot load it.
    """
    import keras

    suffix, version = _format(path)
    with tempfile.TemporaryDirectory() as folder:
        # Keras tells the formats apart by the extension.
        link = Path(folder, f"network{suffix}")
        link.symlink_to(path.resolve())
        try:
            return keras.saving.load_model(link, compile=False)
        except Exception as error:
            if suffix == ".h5" and version.startswith("2."):
                return _load_legacy(link, version, keras.__version__)
            raise _UnfitError(_why_not_loaded(str(error), version, keras.__version__)) from error


def _load_legacy(path: Path, saved_by: str, installed: str) -> Any:
    """Loads an .h5 file of Keras 2, such as Teachable Machine's keras_model.h5, with tf_keras."""
    import tensorflow as tf

    if reason := legacy_keras.explain_unsafe(path):
        raise _UnfitError(reason)
    try:
        import tf_keras
    except ImportError as error:
        release = ".".join(tf.__version__.split(".")[:2])
        # With its dependencies, pip would install TensorFlow a second time.
        raise _UnfitError(
            f"was saved by Keras {saved_by}, and Keras {installed} cannot load it. The package "
            f"tf_keras can. Install it and run again: pip install --no-deps 'tf_keras=={release}.*'"
        ) from error
    try:
        return tf_keras.models.load_model(path, compile=False)
    except Exception as error:
        raise _UnfitError(_why_not_loaded(str(error), saved_by, installed)) from error


def _format(path: Path) -> tuple[str, str]:
    """Returns the extension for the format of a Keras file, and its Keras version, or ""."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "config.json" not in names:
                raise _UnfitError(_explain_archive(path, names))
            metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in names else {}
        return ".keras", metadata.get("keras_version", "")
    if path.open("rb").read(len(_HDF5)) == _HDF5:
        import h5py

        with h5py.File(path) as file:
            if "model_config" not in file.attrs:
                raise _UnfitError(
                    "has only weights, not the network; save the whole model, with "
                    "model.save('network.keras')"
                )
            version = file.attrs.get("keras_version", "")
        return ".h5", version if isinstance(version, str) else version.decode()
    raise _UnfitError("is not a file saved by Keras: neither .keras nor .h5")


def _explain_archive(path: Path, names: list[str]) -> str:
    if path.suffix == ".tm" or (
        "manifest.json" in names and any(n.endswith(".zip") for n in names)
    ):
        return (
            "is a project of Teachable Machine: its photos, not its network. Export the network "
            "there (Export Model, Tensorflow, Keras), unpack the archive, and use keras_model.h5"
        )
    for name in names:
        if name.endswith((".h5", ".keras")):
            return f"is an archive with {name}; unpack it and use that file"
    return "is not a Keras model (it has no config.json)"


def _why_not_loaded(message: str, saved_by: str, installed: str) -> str:
    export = (
        "with model.export('folder'), and use saved_model: folder (a SavedModel is a program: load "
        "only those of people you trust)"
    )
    custom = re.search(
        r"Could not locate (?:class|function) '([^']+)'|Unknown (?:layer|\w+ function): '?([\w>]+)",
        message,
    )
    if saved_by and saved_by.split(".")[0] != installed.split(".")[0]:
        return (
            f"was saved by Keras {saved_by}, and Keras {installed} cannot load it. Export it where "
            "it was trained, with tf.saved_model.save(model, 'folder'), and use saved_model: folder"
        )
    if custom:
        name = custom[1] or custom[2]
        return (
            f"has {name}, which is not part of Keras but of the program that made the network. "
            f"Export it there, {export}"
        )
    if "Lambda" in message or "lambda" in message:
        return (
            "has a Lambda layer, which contains code and, for safety, is not loaded from a file. "
            f"Export it where it was made, {export}"
        )
    first = next((line for line in message.splitlines() if line.strip()), "no reason given")
    return f"cannot be loaded by Keras {installed}: {first.strip().rstrip('.')[:300]}"


def _check_shape(shapes: list[list[int | None]]) -> tuple[int, int, int]:
    """Returns the height, width and channels of the image that a network takes.

    Raises:
        _UnfitError: the input is not one image of a fixed size.
    """
    if len(shapes) != 1:
        raise _UnfitError(f"has {len(shapes)} inputs; an image classifier has one")
    (shape,) = shapes
    if reason := explain_shape(shape):
        raise _UnfitError(reason)
    _, height, width, channels = shape
    if height is None or width is None:
        raise _UnfitError(_ANY_SIZE)
    return height, width, channels or 3


def _write(function: Any, shape: tuple[int, int, int], output: Path) -> None:
    """Converts a function of one float32 image, [1, height, width, channels]; writes the result."""
    import tensorflow as tf

    # With an unknown batch size, operators would compute the shapes.
    image = tf.TensorSpec([1, *shape], tf.float32, name="image")
    concrete = tf.function(function, input_signature=[image]).get_concrete_function()
    _refuse_unsafe(unsafe_operators.in_graph(concrete.graph.as_graph_def()))
    # Without the object that owns the variables, they are converted to constants.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    try:
        output.write_bytes(converter.convert())
    except Exception as error:
        raise _UnfitError(f"cannot be converted to .tflite: {_why_not_converted(error)}") from error


def _refuse_unsafe(operators: list[str]) -> None:
    if operators:
        raise _UnfitError(
            f"has the operators {', '.join(operators)}, which can read or write files or run code. "
            "No image classifier needs them, so it is not loaded: a SavedModel is a program. Use "
            "only SavedModels from people you trust, and export the network without these operators"
        )


def _why_not_converted(error: Exception) -> str:
    operators = sorted(set(re.findall(r"'(tf\.\w+)' op is neither a custom op", str(error))))
    if operators:
        return (
            f"neither TFLite nor the Edge TPU supports {', '.join(operators)}, which recurrent "
            "networks use, for example"
        )
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return first.strip().rstrip(".")[:300]


def _convert_keras(path: Path, output: Path) -> None:
    model = _load_keras(path)
    if not model.built or not getattr(model, "inputs", None):
        raise _UnfitError(
            "was never built, so its layers have no shapes. Add an input, as in "
            "keras.Input((224, 224, 3)), and save it again"
        )
    shape = _check_shape([list(tensor.shape) for tensor in model.inputs])
    _write(lambda image: model(image, training=False), shape, output)


def _convert_saved_model(folder: Path, output: Path) -> None:
    import tensorflow as tf

    if not (folder / "saved_model.pb").is_file():
        raise _UnfitError("is not a SavedModel (it has no saved_model.pb)")
    if (folder / "saved_model.cpb").exists():
        # TensorFlow would load it instead.
        raise _UnfitError("has a saved_model.cpb beside saved_model.pb; export it as one file")
    _refuse_unsafe(unsafe_operators.in_saved_model(folder))
    loaded = tf.saved_model.load(str(folder))
    signatures = loaded.signatures
    if not len(signatures):
        raise _UnfitError("has no signature. Export it with model.export('folder')")
    name = "serving_default" if "serving_default" in signatures else next(iter(signatures))
    function = signatures[name]
    _, inputs = function.structured_input_signature
    shape = _check_shape([_dimensions(spec.shape) for spec in inputs.values()])
    ((argument, spec),) = inputs.items()
    if spec.dtype != tf.float32:
        raise _UnfitError(f"has a {spec.dtype.name} input; a float network has a float32 input")

    _write(lambda image: list(function(**{argument: image}).values()), shape, output)


def _dimensions(shape: Any) -> list[int | None]:
    return [] if shape.rank is None else list(shape)


def main(network: Path, output: Path) -> int:
    """Converts a network in this process; prints errors and returns the exit code."""
    try:
        (_convert_saved_model if network.is_dir() else _convert_keras)(network, output)
    except _UnfitError as error:
        print(error)
        return _USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
