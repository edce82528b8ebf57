"""Run a model, with whichever TFLite runtime is installed."""

import ctypes
import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.photos import preprocessing
from edgetpu_retrain.runtime import devices

_RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
_FILE_IDENTIFIER = b"TFL3"
_CUSTOM_OP = b"edgetpu-custom-op"


@dataclass(frozen=True)
class Quantization:
    """How quantized values stand for real ones: real = scale * (quantized - zero_point)."""

    scale: float
    zero_point: int

    def dequantize(self, values: np.ndarray) -> np.ndarray:
        """Returns the real values as float32."""
        return np.float32(self.scale) * (values.astype(np.float32) - np.float32(self.zero_point))


def is_compiled(model: bytes) -> bool:
    """Whether a .tflite file was compiled for the Edge TPU."""
    return _CUSTOM_OP in model


class Interpreter:
    """A model with one image as input and one vector as output, ready to run.

    Attributes:
        input_size: (width, height) of the image in pixels.
        output_size: the number of values the model gives.
        output_dtype: their dtype.
        quantization: what these values stand for; None where the model gives floats.
        on_edge_tpu: whether it runs there; of such, one process holds one at a time.
    """

    def __init__(self, model: str | Path, device: str = "auto", num_threads: int = 1):
        """Loads a model.

        Args:
            model: path of a .tflite file. One that was compiled for the Edge TPU runs there, any
                other one on the CPU.
            device: as `devices.resolve_device` takes it.
            num_threads: how many threads the CPU may use.

        Raises:
            UserError: the file is not a model of this kind, or its Edge TPU cannot be used.
        """
        path = Path(model)
        if not path.is_file():
            raise UserError(f"{path}: there is no such model.")
        content = path.read_bytes()
        # LiteRT verifies a file before it uses it; tflite-runtime crashes on anything else.
        if content[4:8] != _FILE_IDENTIFIER:
            raise UserError(f"{path} is not a TFLite model (it lacks the identifier TFL3).")
        delegates = []
        self.on_edge_tpu = is_compiled(content)
        if self.on_edge_tpu:
            delegates = [_edgetpu_delegate(path, device)]
        elif device != "auto" and devices.resolve_device(device) != "cpu":
            raise UserError(
                f"{path} is not compiled for the Edge TPU, so it cannot run on {device!r}. Take "
                "the compiled model, or the device cpu."
            )
        self._interpreter = _load(content, str(path), num_threads, delegates)
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        self._input, self._output = inputs[0], outputs[0]
        shape = self._input["shape"]
        if len(inputs) != 1 or len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
            raise UserError(f"{path} does not take one RGB image: its input is {shape.tolist()}.")
        if len(outputs) != 1:
            raise UserError(f"{path} has {len(outputs)} outputs; expected one vector.")
        self.input_size = (int(shape[2]), int(shape[1]))
        self.output_size = int(np.prod(self._output["shape"]))
        self.output_dtype = np.dtype(self._output["dtype"])
        self.quantization = _quantization(self._output)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Runs the model on one photo.

        Args:
            pixels: [height, width, 3] uint8, as `preprocessing.to_pixels` gives them.

        Returns:
            [output_size], of the model's output dtype.
        """
        return self.run_values(preprocessing.as_dtype(pixels, np.dtype(self._input["dtype"])))

    def run_values(self, values: np.ndarray) -> np.ndarray:
        """Runs the model on what its input takes, [height, width, 3] of its dtype."""
        self._interpreter.set_tensor(self._input["index"], values[np.newaxis])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output["index"]).reshape(-1).copy()

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """Runs a classifier on one photo and returns float32 [output_size] scores."""
        values = self.run(pixels)
        return self.quantization.dequantize(values) if self.quantization else values


class LayerInterpreter:
    """The last layer of a classifier, cut off (`tflite.last_layer`), ready to run."""

    def __init__(self, content: bytes, source: str):
        """Loads a model with one vector as input and one as output.

        Args:
            content: the bytes of a .tflite file.
            source: what messages call it.

        Raises:
            UserError: it cannot be loaded.
        """
        self._interpreter = _load(content, source, 1, [])
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()

    def run(self, embeddings: np.ndarray) -> np.ndarray:
        """Runs the layer on embeddings [N, D] and returns [N, C], of its output dtype."""
        shape = self._input["shape"]
        found = np.empty((len(embeddings), self._output["shape"][-1]), self._output["dtype"])
        for row, embedding in zip(found, embeddings, strict=True):
            self._interpreter.set_tensor(self._input["index"], embedding.reshape(shape))
            self._interpreter.invoke()
            row[:] = self._interpreter.get_tensor(self._output["index"]).reshape(-1)
        return found


def _load(content: bytes, source: str, num_threads: int, delegates: list[Any]) -> Any:
    """Returns the runtime's interpreter of a model, ready to run."""
    interpreter_class, _ = _runtime()
    try:
        interpreter = interpreter_class(
            model_content=content, num_threads=num_threads, experimental_delegates=delegates
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{source} cannot be loaded as a TFLite model: {error}") from error
    return interpreter


def _quantization(tensor: dict[str, Any]) -> Quantization | None:
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
    raise UserError("No TFLite runtime is installed: pip install ai-edge-litert")


def _edgetpu_delegate(model: Path, device: str) -> Any:
    _, load_delegate = _runtime()
    wanted = devices.resolve_device(device)
    if wanted == "cpu":
        reason = "the device is 'cpu'" if device == "cpu" else "no Edge TPU was found"
        raise UserError(f"{model} is compiled for the Edge TPU, but {reason}. {_twin(model)}")
    try:
        # load_delegate would print a traceback of its own where the library is missing.
        ctypes.CDLL(devices.library_name())
        return load_delegate(devices.library_name(), {"device": wanted})
    except (ValueError, OSError) as error:
        raise UserError(
            f"The Edge TPU {wanted!r} cannot be used. {devices.diagnosis()}\n{_twin(model)}"
        ) from error


def _twin(model: Path) -> str:
    twin = model.with_name(model.name.replace("_edgetpu.tflite", ".tflite"))
    if twin != model and twin.is_file():
        return f"On the CPU its twin runs: {twin}"
    return "On the CPU only a model that is not compiled runs (its name lacks '_edgetpu')."
