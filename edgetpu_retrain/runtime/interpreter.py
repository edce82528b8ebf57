"""Run a model with whichever TFLite runtime is installed."""

import contextlib
import ctypes
import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import stderr
from edgetpu_retrain.photos import preprocessing
from edgetpu_retrain.runtime import devices

_RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
_FILE_IDENTIFIER = b"TFL3"
_CUSTOM_OP = b"edgetpu-custom-op"
_DETECTOR_HINT = (
    "If it is an object detector, run it with a program for detection, such as PyCoral's "
    "detect_image.py or Frigate, and use a classifier here."
)
# The runtime prints this to standard error, and has no setting for it.
_NOTICE = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU."


@dataclass(frozen=True)
class Quantization:
    """Affine quantization as in TFLite: real = scale * (quantized - zero_point)."""

    scale: float
    zero_point: int

    def dequantize(self, values: np.ndarray) -> np.ndarray:
        """Returns the real values of quantized `values` as float32, in the same shape."""
        return np.float32(self.scale) * (values.astype(np.float32) - np.float32(self.zero_point))


def is_compiled(model: bytes) -> bool:
    """Returns whether the content of a .tflite file was compiled for the Edge TPU."""
    return _CUSTOM_OP in model


class Interpreter:
    """A loaded model that takes one image and returns one vector.

    Attributes:
        input_size: (width, height) of the image in pixels.
        output_size: number of values in the output vector.
        output_dtype: dtype of the output.
        quantization: quantization of the output; None if the model returns floats.
        on_edge_tpu: whether the model runs on an Edge TPU, which only one process at a time can
            use.
    """

    def __init__(self, model: str | Path, device: str = "auto", num_threads: int = 1):
        """Loads a model.

        Args:
            model: path of a .tflite file. A model compiled for the Edge TPU runs there, any other
                on the CPU.
            device: a device as in `devices.resolve_device`.
            num_threads: number of CPU threads.

        Raises:
            UserError: the file is not a model with one RGB image as input and one vector as
                output, `device` does not fit the model, or the Edge TPU cannot be used.
        """
        path = Path(model)
        if not path.is_file():
            raise UserError(f"The model {path} does not exist.")
        content = path.read_bytes()
        # LiteRT verifies the file, but tflite-runtime crashes if it is not a model.
        if content[4:8] != _FILE_IDENTIFIER:
            raise UserError(f"{path} is not a TFLite model (it lacks the file identifier TFL3).")
        delegates = []
        self.on_edge_tpu = is_compiled(content)
        if self.on_edge_tpu:
            delegates = [_edgetpu_delegate(path, device)]
        elif device != "auto" and devices.resolve_device(device) != "cpu":
            raise UserError(
                f"{path} is not compiled for the Edge TPU, so it cannot run on {device!r}. Use "
                "the compiled model, or the device cpu."
            )
        self._interpreter = _load(content, str(path), num_threads, delegates)
        try:
            inputs = self._interpreter.get_input_details()
            outputs = self._interpreter.get_output_details()
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is damaged: a tensor's name is not UTF-8.") from error
        if not inputs or not outputs:
            raise UserError(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs.")
        self._input, self._output = inputs[0], outputs[0]
        shape = self._input["shape"]
        if len(inputs) != 1 or len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
            raise UserError(
                f"{path} does not take one RGB image: its input shape is {shape.tolist()}."
            )
        if len(outputs) != 1:
            raise UserError(
                f"{path} has {len(outputs)} outputs; expected one vector. {_DETECTOR_HINT}"
            )
        self.input_size = (int(shape[2]), int(shape[1]))
        self.output_size = int(np.prod(self._output["shape"]))
        self.output_dtype = np.dtype(self._output["dtype"])
        self.quantization = _quantization(self._output)

    def check_classifier(self, source: str | Path) -> None:
        """Raises a UserError if the output is not one score per class; `source` is the model."""
        shape = self._output["shape"].tolist()
        if max(shape, default=1) != self.output_size:
            raise UserError(
                f"{source} is not a classifier: its output has the shape {shape} instead of one "
                f"score per class. {_DETECTOR_HINT}"
            )

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Runs the model on one photo.

        Args:
            pixels: [height, width, 3] uint8 RGB, as `preprocessing.to_pixels` returns.

        Returns:
            [output_size], in the model's output dtype.
        """
        return self.run_values(preprocessing.as_dtype(pixels, np.dtype(self._input["dtype"])))

    def run_values(self, values: np.ndarray) -> np.ndarray:
        """Runs the model on [height, width, 3] values in its input dtype.

        Returns:
            [output_size], in the model's output dtype.
        """
        self._interpreter.set_tensor(self._input["index"], values[np.newaxis])
        self._interpreter.invoke()
        output: np.ndarray = self._interpreter.get_tensor(self._output["index"])
        return output.reshape(-1).copy()

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """Runs a classifier on one photo, as `run` does; returns float32 scores [output_size]."""
        values = self.run(pixels)
        return self.quantization.dequantize(values) if self.quantization else values


class LayerInterpreter:
    """The last layer of a classifier as a model of its own (`tflite.last_layer`), loaded."""

    def __init__(self, content: bytes, source: str):
        """Loads a model with one vector as input and one as output.

        Args:
            content: the content of a .tflite file.
            source: the name of the model in error messages.

        Raises:
            UserError: the model cannot be loaded.
        """
        self._interpreter = _load(content, source, 1, [])
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()

    def run(self, embeddings: np.ndarray) -> np.ndarray:
        """Runs the layer on embeddings [N, D]; returns [N, C] in its output dtype."""
        shape = self._input["shape"]
        outputs = np.empty((len(embeddings), self._output["shape"][-1]), self._output["dtype"])
        for row, embedding in zip(outputs, embeddings, strict=True):
            self._interpreter.set_tensor(self._input["index"], embedding.reshape(shape))
            self._interpreter.invoke()
            row[:] = self._interpreter.get_tensor(self._output["index"]).reshape(-1)
        return outputs


def _load(content: bytes, source: str, num_threads: int, delegates: list[Any]) -> Any:
    """Returns the installed runtime's interpreter for a model, with its tensors allocated."""
    interpreter_class, _ = _runtime()
    # Runtimes run over missing weights, or crash. tflite-runtime comes without the schema to check.
    with contextlib.suppress(ImportError):
        from edgetpu_retrain.tflite.model import Model

        Model.parse(content, source)
    try:
        with stderr.without(lambda line: line == _NOTICE):
            interpreter = interpreter_class(
                model_content=content, num_threads=num_threads, experimental_delegates=delegates
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{source} cannot be loaded as a TFLite model: {error}") from error
    return interpreter


def _quantization(tensor: dict[str, Any]) -> Quantization | None:
    # A scale of 0 means that the tensor is not quantized.
    scale, zero_point = tensor["quantization"]
    return Quantization(float(scale), int(zero_point)) if scale else None


@functools.cache
def _runtime() -> tuple[Callable[..., Any], Callable[..., Any]]:
    for name in _RUNTIMES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return module.Interpreter, module.load_delegate
    raise UserError("No TFLite runtime is installed. Install one: pip install ai-edge-litert")


def check_edge_tpu(device: str = "auto") -> str:
    """Opens an Edge TPU and closes it again; returns its name.

    Args:
        device: a device as in `devices.resolve_device`, other than the CPU.

    Raises:
        UserError: there is none, or it cannot be used; the message names the likely causes.
    """
    resolved = devices.resolve_device(device)
    if resolved == "cpu":
        raise UserError(f"No Edge TPU was found. {devices.diagnosis()}")
    _open_edge_tpu(resolved)
    return resolved


def _edgetpu_delegate(model: Path, device: str) -> Any:
    resolved = devices.resolve_device(device)
    if resolved == "cpu":
        reason = "the device is 'cpu'" if device == "cpu" else "no Edge TPU was found"
        raise UserError(f"{model} is compiled for the Edge TPU, but {reason}. {_cpu_hint(model)}")
    try:
        return _open_edge_tpu(resolved)
    except UserError as error:
        raise UserError(f"{error}\n{_cpu_hint(model)}") from error


def _open_edge_tpu(device: str) -> Any:
    """Returns a delegate, which holds the device until it is deleted."""
    _, load_delegate = _runtime()
    try:
        # load_delegate prints a traceback of its own if the library is missing.
        ctypes.CDLL(devices.library_name())
        return load_delegate(devices.library_name(), {"device": device})
    except (ValueError, OSError) as error:
        raise UserError(f"The Edge TPU {device!r} cannot be used. {devices.diagnosis()}") from error


def _cpu_hint(model: Path) -> str:
    cpu_model = model.with_name(model.name.replace("_edgetpu.tflite", ".tflite"))
    if cpu_model != model and cpu_model.is_file():
        return f"To run on the CPU, use {cpu_model}."
    return "To run on the CPU, use the model that is not compiled (without '_edgetpu' in its name)."
