"""The TFLite runtime that is installed, and the Edge TPUs it finds."""

import ctypes
import functools
import importlib
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgetpu_retrain.errors import UserError

_RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
_EDGETPU_LIBRARIES = {
    "Linux": "libedgetpu.so.1",
    "Darwin": "libedgetpu.1.dylib",
    "Windows": "edgetpu.dll",
}
_FILE_IDENTIFIER = b"TFL3"
_CUSTOM_OP = b"edgetpu-custom-op"
# (vendor, product) before and after the first use since it was plugged in.
_USB_IDS = {("1a6e", "089a"), ("18d1", "9302")}


@dataclass(frozen=True)
class Quantization:
    """How quantized values stand for real ones: real = scale * (quantized - zero_point)."""

    scale: float
    zero_point: int

    def dequantize(self, values: np.ndarray) -> np.ndarray:
        """Returns the real values as float32."""
        return np.float32(self.scale) * (values.astype(np.float32) - np.float32(self.zero_point))


def list_edge_tpus() -> list[str]:
    """Returns the names of the Edge TPUs that the runtime finds, as in ``["usb:0", "pci:0"]``.

    PyCoral's list is taken where the real PyCoral is installed, else that of the Edge TPU
    library's C interface (``edgetpu_list_devices`` in edgetpu_c.h). Neither opens a device.
    """
    try:
        edgetpu = importlib.import_module("pycoral.utils.edgetpu")
    except ImportError:
        kinds = _library_devices()
    else:
        kinds = [device["type"] for device in edgetpu.list_edge_tpus()]
    names = []
    for kind in ("usb", "pci"):
        names += [f"{kind}:{i}" for i in range(kinds.count(kind))]
    return names


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("path", ctypes.c_char_p))


def _library_devices() -> list[str]:
    try:
        library = ctypes.CDLL(_library_name())
        count = ctypes.c_size_t()
        library.edgetpu_list_devices.restype = ctypes.POINTER(_Device)
        devices = library.edgetpu_list_devices(ctypes.byref(count))
    except (OSError, AttributeError):
        return []
    kinds = [{0: "pci", 1: "usb"}[devices[i].type] for i in range(count.value)]
    library.edgetpu_free_devices(devices)
    return kinds


def _library_name() -> str:
    return _EDGETPU_LIBRARIES[platform.system()]


def resolve_device(device: str) -> str:
    """Returns the device to run on: ``cpu``, or the name of an Edge TPU.

    Args:
        device: ``auto`` (an Edge TPU if there is one, else the CPU), ``cpu``, ``usb``, ``pci``,
            ``usb:N`` or ``pci:N``. Whether a named one is there is found out when it is used.

    Raises:
        UserError: the device is none of these.
    """
    if not re.fullmatch(r"auto|cpu|(usb|pci)(:\d+)?", device):
        raise UserError(f"{device!r} is no device: use auto, cpu, usb, pci, usb:N or pci:N.")
    if device != "auto":
        return device
    return next(iter(list_edge_tpus()), "cpu")


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
    """

    def __init__(self, model: str | Path, device: str = "auto", num_threads: int = 1):
        """Loads a model.

        Args:
            model: path of a .tflite file. One that was compiled for the Edge TPU runs there, any
                other one on the CPU.
            device: as `resolve_device` takes it.
            num_threads: how many threads the CPU may use.

        Raises:
            UserError: the file is no model of this kind, or its Edge TPU cannot be used.
        """
        interpreter_class, load_delegate = _runtime()
        path = Path(model)
        if not path.is_file():
            raise UserError(f"{path}: there is no such model.")
        content = path.read_bytes()
        # LiteRT verifies a file before it uses it; tflite-runtime crashes on what is no model.
        if content[4:8] != _FILE_IDENTIFIER:
            raise UserError(f"{path} is not a TFLite model (it lacks the identifier TFL3).")
        delegates = []
        if is_compiled(content):
            delegates = [_edgetpu_delegate(load_delegate, path, device)]
        elif device != "auto" and resolve_device(device) != "cpu":
            raise UserError(
                f"{path} is not compiled for the Edge TPU, so it cannot run on {device!r}. Take "
                "the compiled model, or the device cpu."
            )
        try:
            self._interpreter = interpreter_class(
                model_content=content,
                num_threads=num_threads,
                experimental_delegates=delegates,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path} cannot be loaded as a TFLite model: {error}") from error
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

    def run(self, photo: Image.Image) -> np.ndarray:
        """Runs the model on one photo, stretched to the input size by nearest neighbour.

        Args:
            photo: in mode RGB, of any size.

        Returns:
            [output_size], of the model's output dtype.
        """
        pixels = np.asarray(photo.resize(self.input_size, Image.Resampling.NEAREST))
        dtype = self._input["dtype"]
        if dtype == np.int8:
            pixels = (pixels ^ 0x80).view(np.int8)
        elif dtype == np.float32:
            pixels = (pixels.astype(np.float32) - 127.5) / 127.5
        self._interpreter.set_tensor(self._input["index"], pixels[np.newaxis])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output["index"]).reshape(-1).copy()

    def scores(self, photo: Image.Image) -> np.ndarray:
        """Runs a classifier on one photo and returns float32 [output_size] scores."""
        values = self.run(photo)
        return self.quantization.dequantize(values) if self.quantization else values


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


def _edgetpu_delegate(load_delegate: Callable[..., Any], model: Path, device: str) -> Any:
    wanted = resolve_device(device)
    if wanted == "cpu":
        reason = "the device is 'cpu'" if device == "cpu" else "no Edge TPU was found"
        raise UserError(f"{model} is compiled for the Edge TPU, but {reason}. {_twin(model)}")
    try:
        # load_delegate would print a traceback of its own where the library is missing.
        ctypes.CDLL(_library_name())
        return load_delegate(_library_name(), {"device": wanted})
    except (ValueError, OSError) as error:
        raise UserError(
            f"The Edge TPU {wanted!r} cannot be used. {_diagnosis()}\n{_twin(model)}"
        ) from error


def _twin(model: Path) -> str:
    twin = model.with_name(model.name.replace("_edgetpu.tflite", ".tflite"))
    if twin != model and twin.is_file():
        return f"On the CPU its twin runs: {twin}"
    return "On the CPU only a model that is not compiled runs (its name lacks '_edgetpu')."


def _diagnosis() -> str:
    """Says what is known of the machine, then the likely causes, likeliest first."""
    causes = []
    library = _library_name()
    try:
        ctypes.CDLL(library)
    except OSError:
        causes.append(
            f"The Edge TPU runtime is not installed ({library} cannot be loaded): install "
            "libedgetpu1-std, or a build for newer runtimes from "
            "https://github.com/feranick/libedgetpu/releases"
        )
    found = list_edge_tpus()
    if found:
        causes.append(f"The runtime finds these devices, name one of them: {', '.join(found)}")
    elif platform.system() == "Linux" and not _attached():
        causes.append(
            "No device is plugged in: neither a USB Accelerator (1a6e:089a, or 18d1:9302 after "
            "its first use) nor a PCIe one (/dev/apex_0) is there"
        )
    causes += [
        "Another process holds it (Frigate, often): one process at a time can",
        "You may not use it: add yourself to the group plugdev (USB) or apex (PCIe), then log in "
        "again",
        "A USB 2 port or a weak power supply: use a USB 3 port, without a hub",
    ]
    return "Likely causes:\n" + "\n".join(f"  - {cause}" for cause in causes)


def _attached() -> bool:
    if any(Path("/dev").glob("apex_*")):
        return True
    for vendor in Path("/sys/bus/usb/devices").glob("*/idVendor"):
        product = vendor.with_name("idProduct")
        if (vendor.read_text().strip(), product.read_text().strip()) in _USB_IDS:
            return True
    return False
