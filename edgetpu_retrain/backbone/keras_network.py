"""Convert a Keras model or a SavedModel to a float .tflite file, with TensorFlow's own converter.

TensorFlow runs in a process of its own:

    python -m edgetpu_retrain.backbone.keras_network NETWORK OUTPUT
"""

import json
import re
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from edgetpu_retrain.backbone import tensorflow_process
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import files

_HDF5 = b"\x89HDF\r\n\x1a\n"
_USER_ERROR = 3
_ANY_SIZE = (
    "takes images of any size; the Edge TPU needs one. Build it with it, as in "
    "keras.Input((224, 224, 3)), load the weights into it, and save it again"
)


def convert(network: str | Path, output: str | Path) -> None:
    """Converts a network for a batch of one image.

    Args:
        network: path of a file that Keras saved (.keras or .h5), or of a SavedModel's folder.
        output: where the .tflite file goes.

    Raises:
        UserError: it is something else, cannot be loaded or converted, or does not take one RGB
            image of a fixed size.
    """
    with files.replacing(output) as temporary:
        command = [sys.executable, "-m", __name__, str(network), str(temporary)]
        done = tensorflow_process.run(command)
        if done.returncode == _USER_ERROR:
            raise UserError(f"{network} {done.stdout.strip().splitlines()[-1]}.")
        if done.returncode or not temporary.is_file():
            raise UserError(
                f"TensorFlow could not convert {network} to .tflite:\n"
                f"{tensorflow_process.error_excerpt(done.stderr)}"
            )


class _UnfitError(Exception):
    """What is wrong with a network, as the predicate of a sentence."""


def _load_keras(path: Path) -> Any:
    """Loads a Keras file, whatever its name ends in.

    Raises:
        _UnfitError: it is not one, or Keras does not load it.
    """
    import keras

    suffix, version = _format(path)
    with tempfile.TemporaryDirectory() as folder:
        # Keras goes by the name.
        link = Path(folder, f"network{suffix}")
        link.symlink_to(path.resolve())
        try:
            return keras.saving.load_model(link, compile=False)
        except Exception as error:
            raise _UnfitError(_why_not_loaded(str(error), version, keras.__version__)) from error


def _format(path: Path) -> tuple[str, str]:
    """Returns the suffix of a Keras file, and the version of Keras that saved it, if it says so."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "config.json" not in names:
                raise _UnfitError("is not a Keras model (it holds no config.json)")
            about = json.loads(archive.read("metadata.json")) if "metadata.json" in names else {}
        return ".keras", about.get("keras_version", "")
    if path.open("rb").read(len(_HDF5)) == _HDF5:
        import h5py

        with h5py.File(path) as file:
            if "model_config" not in file.attrs:
                raise _UnfitError(
                    "holds weights without their network; save the whole model, with "
                    "model.save('network.keras')"
                )
            version = file.attrs.get("keras_version", "")
        return ".h5", version if isinstance(version, str) else version.decode()
    raise _UnfitError("is not a file that Keras saved: neither .keras nor .h5")


def _why_not_loaded(message: str, saved_by: str, installed: str) -> str:
    export = "with model.export('folder'), and give that as saved_model: folder"
    custom = re.search(
        r"Could not locate (?:class|function) '([^']+)'|Unknown (?:layer|\w+ function): '?([\w>]+)",
        message,
    )
    if saved_by and saved_by.split(".")[0] != installed.split(".")[0]:
        return (
            f"was saved by Keras {saved_by}, and Keras {installed} cannot load it. Export it where "
            f"it was trained, with tf.saved_model.save(model, 'folder'), and give that as "
            "saved_model: folder"
        )
    if custom:
        name = custom[1] or custom[2]
        return (
            f"holds {name}, which is not a part of Keras but of the program that made it. Export "
            f"it there, {export}"
        )
    if "Lambda" in message or "lambda" in message:
        return (
            "holds a Lambda layer, which is program code and is not run from a file. Export it "
            f"where it was made, {export}"
        )
    first = next((line for line in message.splitlines() if line.strip()), "no reason given")
    return f"cannot be loaded by Keras {installed}: {first.strip().rstrip('.')[:300]}"


def _check_shape(shapes: list[list[int | None]]) -> tuple[int, int]:
    """Returns height and width of the one image that a network takes.

    Raises:
        _UnfitError: it takes something else.
    """
    if len(shapes) != 1:
        raise _UnfitError(f"takes {len(shapes)} inputs; an image classifier takes one")
    (shape,) = shapes
    if len(shape) != 4 or shape[3] not in (3, None):
        raise _UnfitError(
            f"takes the shape {shape}; expected one RGB image, [batch, height, width, 3]"
        )
    _, height, width, _ = shape
    if height is None or width is None:
        raise _UnfitError(_ANY_SIZE)
    return height, width


def _write(function: Any, size: tuple[int, int], output: Path) -> None:
    """Converts a function of one image."""
    import tensorflow as tf

    # Converted for a batch of unknown size, shapes would be computed by operators.
    image = tf.TensorSpec([1, *size, 3], tf.float32, name="image")
    concrete = tf.function(function, input_signature=[image]).get_concrete_function()
    # Without the object that holds them, variables become constants.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    try:
        output.write_bytes(converter.convert())
    except Exception as error:
        raise _UnfitError(f"cannot be converted to .tflite: {_why_not_converted(error)}") from error


def _why_not_converted(error: Exception) -> str:
    operators = sorted(set(re.findall(r"'(tf\.\w+)' op is neither a custom op", str(error))))
    if operators:
        return (
            f"TFLite has no operators for {', '.join(operators)}, nor has the Edge TPU. A "
            "recurrent network, for one, is not for it"
        )
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return first.strip().rstrip(".")[:300]


def _convert_keras(path: Path, output: Path) -> None:
    model = _load_keras(path)
    if not model.built or not getattr(model, "inputs", None):
        raise _UnfitError(
            "has never seen an image, so its layers have no shapes. Give it an input, as in "
            "keras.Input((224, 224, 3)), and save it again"
        )
    size = _check_shape([list(tensor.shape) for tensor in model.inputs])
    if len(model.outputs) != 1:
        raise _UnfitError(f"has {len(model.outputs)} outputs, so it is not a classifier")
    _write(lambda image: model(image, training=False), size, output)


def _convert_saved_model(folder: Path, output: Path) -> None:
    import tensorflow as tf

    if not (folder / "saved_model.pb").is_file():
        raise _UnfitError("is not a SavedModel (it holds no saved_model.pb)")
    loaded = tf.saved_model.load(str(folder))
    signatures = loaded.signatures
    if not len(signatures):
        raise _UnfitError("has no signature. Export it with model.export('folder')")
    name = "serving_default" if "serving_default" in signatures else next(iter(signatures))
    function = signatures[name]
    _, inputs = function.structured_input_signature
    size = _check_shape([_dimensions(spec.shape) for spec in inputs.values()])
    if len(function.structured_outputs) != 1:
        raise _UnfitError(
            f"has {len(function.structured_outputs)} outputs, so it is not a classifier"
        )
    ((argument, spec),) = inputs.items()
    if spec.dtype != tf.float32:
        raise _UnfitError(f"takes {spec.dtype.name} values; a float network takes float32")

    def run(image: Any) -> Any:
        (scores,) = function(**{argument: image}).values()
        return scores

    _write(run, size, output)


def _dimensions(shape: Any) -> list[int | None]:
    return [] if shape.rank is None else list(shape)


def main(network: Path, output: Path) -> int:
    """Converts a network in this process, and returns its exit code; what is wrong is printed."""
    try:
        (_convert_saved_model if network.is_dir() else _convert_keras)(network, output)
    except _UnfitError as error:
        print(error)
        return _USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
