#!/usr/bin/env python3
"""Classify photos or camera pictures with the model in this folder.

    python3 classify.py photo.jpg a_folder --top_k 3
    python3 classify.py --camera 0 --json
    python3 classify.py --check

It needs numpy, Pillow, and ai-edge-litert or tflite-runtime (which comes with PyCoral), and OpenCV
for a camera. It is for Python 3.9 or later, with the syntax of 3.7 for the Coral Dev Board.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import importlib
import io
import json
import math
import os
import platform
import re
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import photos
    from PIL import Image
except ImportError as error:
    MISSING: ImportError | None = error
else:
    MISSING = None

HERE = Path(__file__).resolve().parent
PYTHON = Path(sys.executable).name
PIP = f"{PYTHON} -m pip install"
INSTALL = f"{PIP} -r {HERE / 'requirements.txt'}"
RUNTIMES = (
    ("ai-edge-litert", "ai_edge_litert.interpreter"),
    ("tflite-runtime", "tflite_runtime.interpreter"),
)
LIBRARIES = {"Linux": "libedgetpu.so.1", "Darwin": "libedgetpu.1.dylib", "Windows": "edgetpu.dll"}
CUSTOM_OP = b"edgetpu-custom-op"
# What this program imports, beside packages, from the bundle.
PARTS = ("photos.py", "file_kinds.py", "jpeg_header.py")


class UserError(Exception):
    """An error that the user can fix; the message says how."""


def find_runtime() -> tuple[str, Any]:
    """Returns the installed TFLite runtime: the name of its package and its module."""
    for package, module in RUNTIMES:
        try:
            return package, importlib.import_module(module)
        except ImportError:
            continue
    raise UserError(f"No TFLite runtime is installed. Run:\n  {INSTALL}")


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("path", ctypes.c_char_p))


def library_name() -> str:
    """Returns the file name of the Edge TPU library on this system."""
    return LIBRARIES.get(platform.system(), LIBRARIES["Linux"])


def list_edge_tpus() -> list[str]:
    """Returns the Edge TPUs that the library finds, such as ["usb:0"], without opening them."""
    try:
        library = ctypes.CDLL(library_name())
        count = ctypes.c_size_t()
        library.edgetpu_list_devices.restype = ctypes.POINTER(_Device)
        library.edgetpu_free_devices.argtypes = [ctypes.POINTER(_Device)]
        devices = library.edgetpu_list_devices(ctypes.byref(count))
        kinds = [{0: "pci", 1: "usb"}[devices[i].type] for i in range(count.value)]
        library.edgetpu_free_devices(devices)
    except (OSError, AttributeError):
        return []
    return [f"{kind}:{i}" for kind in ("usb", "pci") for i in range(kinds.count(kind))]


def choose(model: str | None, device: str) -> tuple[Path, str]:
    """Returns the path of the model to run and its device: "cpu", or the name of an Edge TPU."""
    if model is not None:
        path = Path(model)
        compiled = path.is_file() and CUSTOM_OP in path.read_bytes()
    else:
        compiled = device != "cpu" and (HERE / "model_edgetpu.tflite").is_file()
        if device == "auto" and not list_edge_tpus():
            compiled = False
        path = HERE / ("model_edgetpu.tflite" if compiled else "model.tflite")
    if device == "auto":
        device = next(iter(list_edge_tpus()), "") if compiled else "cpu"
    if not device:
        raise UserError(
            f"{path} is compiled for the Edge TPU, but no Edge TPU was found. To find out why, run:"
            f"\n  {PYTHON} {Path(__file__).name} --check"
        )
    if compiled and device == "cpu":
        raise UserError(f"{path} is compiled for the Edge TPU. On the CPU, use model.tflite.")
    if not compiled and device != "cpu" and path.is_file():
        raise UserError(f"{path} is not compiled for the Edge TPU. Use model_edgetpu.tflite.")
    return path, device


class Classifier:
    """A classifier, loaded and ready to run.

    Attributes:
        size: (width, height) of its input in pixels.
        at_least: how many pixels a side of a photo must keep when it is decoded; None for all.
        names: names of its classes.
    """

    def __init__(self, model: Path, device: str, labels: str | None):
        if not model.is_file():
            raise UserError(f"{model}: there is no such model.")
        with model.open("rb") as file:
            if file.read(8)[4:] != b"TFL3":
                raise UserError(f"{model} is not a TFLite model (it lacks the identifier TFL3).")
        package, runtime = find_runtime()
        delegates = [] if device == "cpu" else [_load_edge_tpu(runtime, device)]
        try:
            self._interpreter = runtime.Interpreter(
                model_path=str(model), num_threads=1, experimental_delegates=delegates
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{model} cannot be loaded: {error}") from None
        except SystemError:
            # tflite-runtime 2.14 fails like this with numpy 2.
            raise UserError(
                f"{package} is incompatible with numpy {np.__version__}. Run:\n  {PIP} 'numpy<2'"
            ) from None
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        shape = [int(n) for n in inputs[0]["shape"]]
        if len(inputs) > 1 or len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
            raise UserError(f"{model} does not take one RGB picture: its input shape is {shape}.")
        if len(outputs) > 1 or max(outputs[0]["shape"]) != np.prod(outputs[0]["shape"]):
            raise UserError(f"{model}: not a classifier. Detectors: PyCoral's detect_image.py.")
        if inputs[0]["dtype"] != np.uint8 or outputs[0]["dtype"] != np.uint8:
            raise UserError(f"{model} does not have a uint8 input and output.")
        self._input, self._output = inputs[0], outputs[0]
        self.size = (shape[2], shape[1])
        nearest = stored_files(model).get("resize.txt") == ["nearest"]
        self._resize = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        # As in training: a JPEG decoded at reduced size keeps some pixels for resizing to average.
        self.at_least = None if nearest else math.ceil(1.5 * max(self.size))
        self.names = class_names(model, int(np.prod(outputs[0]["shape"])), labels)

    def scores(self, photo: Image.Image) -> np.ndarray:
        """Returns the scores of a picture, float32 [C]; it is in mode RGB and of any size."""
        pixels = np.asarray(photo.resize(self.size, self._resize))
        self._interpreter.set_tensor(self._input["index"], pixels[np.newaxis])
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise UserError(f"The model cannot be run: {error}") from None
        values = self._interpreter.get_tensor(self._output["index"]).reshape(-1)
        scale, zero_point = self._output["quantization"]
        centred: np.ndarray = values.astype(np.float32) - np.float32(zero_point)
        return np.float32(scale) * centred


def _load_edge_tpu(runtime: Any, device: str) -> Any:
    try:
        # load_delegate prints its own traceback if the library is missing.
        ctypes.CDLL(library_name())
        return runtime.load_delegate(library_name(), {"device": device})
    except (ValueError, OSError) as error:
        raise UserError(
            f"The Edge TPU {device} cannot be used: {str(error).strip()}\n"
            f"To find out why, run:\n  {PYTHON} {Path(__file__).name} --check\n"
            "Or use the CPU: --device cpu"
        ) from None


def stored_files(model: Path) -> dict[str, list[str]]:
    """Returns the lines of the files in the archive at a model's end; of a damaged one, no more."""
    found: dict[str, list[str]] = {}
    if zipfile.is_zipfile(model):
        with contextlib.suppress(Exception), zipfile.ZipFile(model) as archive:
            for entry in archive.infolist():
                # Larger ones are not class names.
                if entry.file_size < 1 << 24:
                    content = archive.read(entry).decode(errors="replace")
                    found[entry.filename] = content.splitlines()
    return found


def class_names(model: Path, count: int, labels: str | None) -> list[str]:
    """Returns the names of a model's classes: from `labels`, its metadata or labels.txt."""
    stored = stored_files(model).values() if labels is None else ()
    for lines in stored:
        if len(lines) == count:
            return lines
    path = Path(labels) if labels else model.with_name("labels.txt")
    if labels is None and not path.is_file():
        return [f"class {i}" for i in range(count)]
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a label file: {error}") from None
    pairs = [line.split(maxsplit=1) for line in lines if line]
    numbered = dict(enumerate(lines))
    if all(len(pair) == 2 and pair[0].isdecimal() for pair in pairs):
        numbered = {int(number): name for number, name in pairs}
    return [numbered.get(i, f"class {i}") for i in range(count)]


def read_photos(inputs: list[str], at_least: int | None) -> Iterator[tuple[str, Any]]:
    """Yields the path of each photo with its picture, or with the PhotoError that prevents it."""
    try:
        for path in photos.find_photos(inputs):
            try:
                yield str(path), photos.read_file(path, at_least)
            except photos.PhotoError as error:
                yield str(path), error
    except FileNotFoundError as error:
        raise UserError(str(error)) from None


def read_camera(camera: str) -> Iterator[tuple[str, Any]]:
    """Yields pictures from a camera, stream or video, each with its time, until it ends."""
    try:
        import cv2
    except ImportError:
        raise UserError(f"A camera needs OpenCV. Run:\n  {PIP} opencv-python-headless") from None
    capture = cv2.VideoCapture(int(camera) if camera.isdecimal() else camera)
    if not capture.isOpened():
        raise UserError(
            f"The camera {camera!r} cannot be opened. `ls /dev/video*` lists the cameras. OpenCV "
            "cannot use the Raspberry Pi's own camera modules; see README.md."
        )
    while True:
        success, frame = capture.read()
        if not success:
            return
        now = datetime.datetime.now().isoformat(timespec="milliseconds")
        yield now, Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


def classify(arguments: argparse.Namespace) -> bool:
    """Prints the classes of each picture; returns whether all pictures could be read."""
    model, device = choose(arguments.model, arguments.device)
    classifier = Classifier(model, device, arguments.labels)
    on = "the CPU" if device == "cpu" else f"the Edge TPU {device}"
    print(f"{model.name} on {on}, with {find_runtime()[0]}", file=sys.stderr)
    key, pictures = "photo", read_photos(arguments.photos, classifier.at_least)
    if arguments.camera is not None:
        key, pictures = "time", read_camera(arguments.camera)
    all_read = True
    for name, picture in pictures:
        if isinstance(picture, photos.PhotoError):
            all_read = False
            if arguments.json:
                print(json.dumps({key: name, "error": str(picture)}), flush=True)
            else:
                print(f"{name}: {picture}", file=sys.stderr)
            continue
        start = time.perf_counter()
        scores = classifier.scores(picture)
        milliseconds = 1000 * (time.perf_counter() - start)
        best = (-scores).argsort(kind="stable")[: arguments.top_k]
        classes = [(classifier.names[i], float(scores[i])) for i in best]
        classes = [(label, score) for label, score in classes if score >= arguments.threshold]
        if arguments.json:
            result = {
                key: name,
                "classes": [{"name": label, "score": score} for label, score in classes],
                "milliseconds": round(milliseconds, 2),
                "device": device,
            }
            print(json.dumps(result), flush=True)
            continue
        lines = [f"  {label}: {score:.3f}" for label, score in classes]
        lines = lines or [f"  no class reaches {arguments.threshold}"]
        print("\n".join([f"{name} ({milliseconds:.1f} ms)", *lines]), flush=True)
    return all_read


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", nargs="*", help="photos or folders of photos")
    parser.add_argument("--camera", help="number of a camera, or address of a stream or video")
    parser.add_argument("--check", action="store_true", help="test this machine and its Edge TPU")
    parser.add_argument("--top_k", "--top-k", type=int, default=1, help="classes to print (1)")
    parser.add_argument("--threshold", type=float, default=0.0, help="omit lower scores (0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per picture")
    parser.add_argument("--device", default="auto", help="auto, cpu, usb, pci, usb:N or pci:N")
    parser.add_argument("--model", help="use this .tflite file instead of the model in this folder")
    parser.add_argument("--labels", help="label file, if the model has no class names")
    arguments = parser.parse_args()
    if not re.fullmatch(r"auto|cpu|(usb|pci)(:\d+)?", arguments.device):
        parser.error(f"{arguments.device!r} is not one of auto, cpu, usb, pci, usb:N and pci:N")
    if arguments.top_k < 1 or not 0 <= arguments.threshold <= 1:
        parser.error("--top_k must be at least 1, and --threshold from 0 to 1")
    if bool(arguments.photos) + (arguments.camera is not None) + arguments.check != 1:
        parser.error("give either photos or folders, or --camera, or --check")
    return arguments


def main() -> int:
    """Runs the program; returns its exit code, 1 if anything failed."""
    if sys.stdout is None:
        print("Standard output is closed, so there is nowhere to print to.", file=sys.stderr)
        return 1
    arguments = parse_arguments()
    # On a board without a locale, a class or file name outside ASCII must not raise an error.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        # What learn.py was doing when it was killed. Without it, there is nothing to complete.
        with contextlib.suppress(ImportError):
            importlib.import_module("complete").complete(HERE)
        for name in (*PARTS, *(["check.py"] if arguments.check else ())):
            if not (HERE / name).is_file():
                raise UserError(f"{HERE / name} is missing. Copy the whole bundle again.")
        if arguments.check:
            # check.py imports this program as a module, which has to be the same one.
            sys.modules["classify"] = sys.modules[__name__]
            passed = importlib.import_module("check").check()
            sys.stdout.flush()
            return 0 if passed else 1
        if MISSING:
            raise UserError(f"{MISSING}. Run:\n  {INSTALL}")
        all_read = classify(arguments)
        sys.stdout.flush()
        return 0 if all_read else 1
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        # What is left to write when Python exits must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # Not for a reader that has closed the pipe, as `head` does.
        if not isinstance(error, BrokenPipeError):
            where = error.filename or "standard output"
            print(f"{where}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
