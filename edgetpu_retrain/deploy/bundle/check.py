"""Checks what is installed, which Edge TPUs are found and what is missing, and tests the models.

`python3 classify.py --check` runs this. Problems come with the command that fixes them, if known.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import classify

# The root of /dev, /etc, /proc and /sys; tests replace it.
SYSTEM = Path("/")
# (vendor, product) of the USB Accelerator before and after its first use since it was plugged in.
USB_IDS = {("1a6e", "089a"), ("18d1", "9302")}
PCI_ID = ("0x1ac1", "0x089a")
BUILDS = "https://github.com/feranick/libedgetpu/releases"
RULE_FOLDERS = ("etc/udev/rules.d", "lib/udev/rules.d", "usr/lib/udev/rules.d")
# The udev rules that give a group access, after a word that identifies existing rules.
USB_RULE = 'SUBSYSTEM=="usb", ATTRS{{idVendor}}=="{}", GROUP="plugdev", MODE="0660"'
RULES = {
    "plugdev": ("1a6e", [USB_RULE.format("1a6e"), USB_RULE.format("18d1")]),
    "apex": ("apex", ['SUBSYSTEM=="apex", GROUP="apex", MODE="0660"']),
}
REQUIRED_FILES = ("model.tflite", "check.png", "check.json")
TIMEOUT_SECONDS = 120
RUNS = 10
# Processors round differently; a larger difference in a score is an error.
TOLERANCE = 0.1

# Error messages of the runtime, with the causes and remedies that users report.
KNOWN_FAILURES = (
    (
        "is incompatible with numpy",
        f"This tflite-runtime was built for an older numpy. Run:\n{classify.PIP} 'numpy<2'",
    ),
    (
        "newer than this runtime version",
        f"The Edge TPU library is too old for this model. Install a newer one: {BUILDS}",
    ),
    (
        "Unsupported data type in custom op handler",
        "The Edge TPU library and the TFLite runtime are not compatible. Use new versions of both "
        f"(ai-edge-litert and a library from {BUILDS}), or both from Google's PyCoral.",
    ),
    (
        "Failed to load delegate",
        "The device was found, but does not respond. Another process may be using it, often "
        "Frigate; only one can at a time (`sudo lsof /dev/bus/usb/*/* /dev/apex_*` lists them). Or "
        "the power supply or USB port may be too weak: use a USB 3 port without a hub, unplug the "
        "device and plug it in again.",
    ),
    (
        "Didn't find op for builtin opcode",
        f"The TFLite runtime is too old for this model. Run:\n{classify.INSTALL} --upgrade",
    ),
)


class Report:
    """Prints findings and counts the problems among them."""

    def __init__(self) -> None:
        self.problems = 0

    def info(self, text: str) -> None:
        """Prints a finding that needs no action."""
        print("  " + text.replace("\n", "\n  "))

    def problem(self, text: str) -> None:
        """Prints a problem and how to fix it."""
        self.problems += 1
        print("! " + text.replace("\n", "\n  "))


def check() -> bool:
    """Prints all findings; returns whether there are no problems."""
    report = Report()
    print(f"{_system_name()}, {platform.machine()}, Python {platform.python_version()}")
    print("\nInstalled")
    can_run = _check_packages(report)
    attached = _check_edge_tpus(report)
    print("\nModels")
    model, compiled = classify.HERE / "model.tflite", classify.HERE / "model_edgetpu.tflite"
    missing = [name for name in REQUIRED_FILES if not (classify.HERE / name).is_file()]
    if missing:
        can_run = False
        report.problem(
            f"Missing in this folder: {', '.join(missing)}. Copy the whole bundle again."
        )
    if can_run:
        _test(report, model, "cpu")
    if compiled.is_file():
        for device in attached if can_run else ():
            _test(report, compiled, device)
        if not attached:
            report.info(f"{compiled.name}: not tested, because no Edge TPU was found.")
    elif attached:
        report.info("An Edge TPU was found, but this bundle has no model for it.")
    if report.problems:
        problems = "1 problem" if report.problems == 1 else f"{report.problems} problems"
        print(f"\n{problems} found: see the lines that start with !")
    elif compiled.is_file() and not attached:
        print(
            f"\n{model.name} gave the right answer on the CPU. {compiled.name} was not tested: no "
            "Edge TPU was found."
        )
    else:
        print("\nNo problems found: every model gave the right answer.")
    return not report.problems


def _system_name() -> str:
    try:
        lines = (SYSTEM / "etc/os-release").read_text(encoding="utf-8").splitlines()
        entries = dict(line.split("=", 1) for line in lines if "=" in line)
        return entries["PRETTY_NAME"].strip('"')
    except (OSError, KeyError):
        return platform.system()


def _version(package: str, module: str) -> str:
    """Returns the version of an installed package; raises ImportError if it is not installed."""
    imported = importlib.import_module(module)
    try:
        return str(importlib.import_module("importlib.metadata").version(package))
    # Python 3.7 has no importlib.metadata, and a system package may have no metadata.
    except ImportError:
        return str(getattr(imported, "__version__", "(unknown version)"))


def _check_packages(report: Report) -> bool:
    """Reports the installed packages; returns whether a model can run."""
    complete = True
    for package, module in (("numpy", "numpy"), ("Pillow", "PIL")):
        try:
            report.info(f"{package} {_version(package, module)}")
        except ImportError as error:
            complete = False
            report.problem(f"{package} cannot be imported ({error}). Run:\n{classify.INSTALL}")
    if complete:
        try:
            package, runtime = classify.find_runtime()
            report.info(f"{package} {_version(package, runtime.__name__)}")
        except classify.UserError as error:
            complete = False
            report.problem(str(error))
    try:
        importlib.import_module("pycoral.utils.edgetpu")
        report.info(f"PyCoral {_version('pycoral', 'pycoral')}")
    except ImportError:
        if _can_import("pycoral"):
            report.info("The installed package pycoral is not Google's PyCoral; it is not used.")
    if _can_import("cv2"):
        report.info(f"OpenCV {importlib.import_module('cv2').__version__}")
    else:
        report.info("OpenCV is not installed; only --camera needs it.")
    return complete


def _can_import(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _check_edge_tpus(report: Report) -> list[str]:
    """Reports the Edge TPUs and their library; returns the names of those to test."""
    print("\nEdge TPU")
    name, library = classify.library_name(), None
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        reason = str(error)
    listed: list[str] = classify.list_edge_tpus()
    usb, pci = _usb_devices(), _pci_nodes()
    plugged_in = bool(usb or pci or listed)
    # Without an Edge TPU, a missing library is not a problem.
    warn = report.problem if plugged_in else report.info
    if library is not None:
        version = _library_version(library)
        report.info(f"{name}: {version}")
        _check_runtime(report, version)
    elif "libusb" in reason:
        warn(f"{name} needs libusb. Run:\nsudo apt-get install libusb-1.0-0")
    elif f"{name}: cannot open" in reason or "not found" in reason:
        warn(f"{name} is not installed. README.md explains how to install it on each system.")
    else:
        warn(f"{name} is installed, but cannot be loaded: {reason}")
    for node, speed in usb:
        report.info(f"USB: {node}, {speed} Mbit/s")
        if speed.isdecimal() and int(speed) < 5000:
            report.info("This is USB 2, which is slow. Use a USB 3 port and cable.")
        _check_node(report, node, "plugdev")
    for node in pci:
        report.info(f"PCIe: {node}")
        if node.name.startswith("apex"):
            _check_node(report, node, "apex")
        else:
            report.problem(
                "The PCIe device has no /dev/apex_0: its driver is missing. Google's gasket-dkms "
                "does not build on new kernels; use a build from "
                "https://github.com/feranick/gasket-driver/releases\n"
                "A Raspberry Pi 5 also needs kernel=kernel8.img in /boot/firmware/config.txt."
            )
    if not plugged_in:
        report.info(
            "No Edge TPU was found. If one is plugged in, `lsusb` should list 1a6e:089a, or "
            "18d1:9302 after its first use."
        )
    elif library is not None and not listed:
        report.problem(
            "The library does not find the device. Fix any problems listed above, then plug the "
            "device in again."
        )
    elif listed:
        report.info(f"The library finds {', '.join(listed)}")
    return listed


def _library_version(library: Any) -> str:
    try:
        library.edgetpu_version.restype = ctypes.c_char_p
        return str(library.edgetpu_version().decode())
    except AttributeError:
        return "(unknown version)"


def _check_runtime(report: Report, version: str) -> None:
    """Reports a library that is older than the Edge TPU model needs."""
    needed = _expected().get("edgetpu_runtime")
    found = re.search(r"RuntimeVersion\((\d+)\)", version)
    if isinstance(needed, int) and found and int(found.group(1)) < needed:
        report.problem(
            f"model_edgetpu.tflite needs Edge TPU runtime {needed} or later, but this library is "
            f"version {found.group(1)}. Install a newer one ({BUILDS})."
        )


def _expected() -> dict[str, Any]:
    """Returns the content of check.json: the answer that the models should give."""
    path = classify.HERE / "check.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["scores"] = {name: float(score) for name, score in content["scores"].items()}
        content["scores"][content["class"]]
        return content
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise classify.UserError(f"{path} is damaged. Copy the whole bundle again.") from None


def _usb_devices() -> list[tuple[Path, str]]:
    """Returns the device node and the speed in Mbit/s of every USB Accelerator, from sysfs."""
    devices = []
    for folder in sorted(SYSTEM.glob("sys/bus/usb/devices/*")):
        attributes = {
            name: (folder / name).read_text().strip()
            for name in ("idVendor", "idProduct", "busnum", "devnum", "speed")
            if (folder / name).is_file()
        }
        if (attributes.get("idVendor"), attributes.get("idProduct")) in USB_IDS:
            bus, device = int(attributes.get("busnum", 0)), int(attributes.get("devnum", 0))
            node = SYSTEM / f"dev/bus/usb/{bus:03d}/{device:03d}"
            devices.append((node, attributes.get("speed", "unknown")))
    return devices


def _pci_nodes() -> list[Path]:
    """Returns the device nodes of PCIe Edge TPUs; their sysfs folders if the driver is missing."""
    nodes = sorted(SYSTEM.glob("dev/apex_*"))
    devices = [
        folder
        for folder in sorted(SYSTEM.glob("sys/bus/pci/devices/*"))
        if all((folder / name).is_file() for name in ("vendor", "device"))
        and tuple((folder / n).read_text().strip() for n in ("vendor", "device")) == PCI_ID
    ]
    return nodes or devices


def _check_node(report: Report, node: Path, group: str) -> None:
    """Reports whether this user may use a device, and which processes have it open."""
    if not node.exists():
        report.problem(
            f"{node} does not exist. In a container, pass the device in: docker run --device "
            "/dev/bus/usb"
        )
    elif not os.access(node, os.R_OK | os.W_OK):
        commands = [f"sudo usermod -aG {group} $USER"]
        word, rules = RULES[group]
        if not _has_rule(word):
            commands = [f"sudo groupadd -f {group}", *commands]
            to = f"| sudo tee -a /etc/udev/rules.d/99-{group}-edgetpu.rules"
            commands += [f"echo '{rule}' {to}" for rule in rules]
        lines = "\n".join(commands)
        report.problem(
            f"You are not allowed to use {node}. Run this, then restart the machine:\n{lines}"
        )
    for process in _processes_using(node):
        report.problem(
            f"{process} is using {node}, and only one process can use it at a time. Stop it."
        )


def _has_rule(word: str) -> bool:
    files = (file for folder in RULE_FOLDERS for file in (SYSTEM / folder).glob("*.rules"))
    return any(word in file.read_text(errors="replace") for file in files)


def _processes_using(node: Path) -> list[str]:
    """Returns the processes that have a device open, as far as this user is allowed to see them."""
    processes = []
    for folder in SYSTEM.glob("proc/[0-9]*"):
        try:
            if any(os.readlink(file) == str(node) for file in (folder / "fd").iterdir()):
                name = (folder / "comm").read_text().strip()
                processes.append(f"{name} (process {folder.name})")
        except OSError:
            continue
    return processes


def _test(report: Report, model: Path, device: str) -> None:
    """Runs a model on check.png and compares its scores with those in check.json."""
    label = f"{model.name} on {'the CPU' if device == 'cpu' else f'the Edge TPU {device}'}"
    expected = _expected()
    picture = str(classify.HERE / "check.png")
    command = [sys.executable, str(classify.HERE / "classify.py"), *[picture] * RUNS, "--json"]
    command += ["--model", str(model), "--device", device, "--top_k", str(len(expected["scores"]))]
    try:
        # In a separate process, because an incompatible runtime can crash or hang.
        done = subprocess.run(
            command, capture_output=True, timeout=TIMEOUT_SECONDS, text=True, encoding="utf-8"
        )
    except subprocess.TimeoutExpired:
        report.problem(
            f"{label}: no answer within {TIMEOUT_SECONDS} seconds. Unplug the device and plug it "
            "in again, into a USB 3 port without a hub."
        )
        return
    if done.returncode != 0:
        report.problem(f"{label}: {_cause(done, device)}")
        return
    results = [json.loads(line) for line in done.stdout.splitlines()]
    scores = {entry["name"]: entry["score"] for entry in results[-1]["classes"]}
    if set(scores) != set(expected["scores"]):
        report.problem(
            f"{label}: its classes are not those in check.json. Copy the whole bundle again."
        )
        return
    difference = max(abs(scores[name] - score) for name, score in expected["scores"].items())
    best = max(scores, key=lambda name: scores[name])
    milliseconds = statistics.median(result["milliseconds"] for result in results[1:])
    answer = f"{label}: {best} {scores[best]:.3f}, in {milliseconds:.1f} ms"
    if best != expected["class"] or difference > TOLERANCE:
        score = expected["scores"][expected["class"]]
        report.problem(f"{answer}. Wrong: it should be {expected['class']} {score:.3f}.")
        return
    match = "as expected" if difference == 0 else f"within {difference:.3f} of the expected scores"
    report.info(f"{answer}, {match}.")


def _cause(done: subprocess.CompletedProcess[str], device: str) -> str:
    """Returns the cause of a failed test, with the remedy if it is known."""
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        text = f"the runtime crashed ({name}). "
        if name == "SIGILL":
            return text + "It was built for instructions that this processor does not have."
        if device == "cpu":
            return text + (
                "The model file may be damaged; ai-edge-litert gives a reason instead of crashing. "
                f"Run:\n{classify.INSTALL}"
            )
        return text + (
            "The Edge TPU library and the TFLite runtime are not compatible: Google's library "
            "dates from TensorFlow 2.5 and crashes with newer runtimes. Install a library from "
            f"2024 or later: {BUILDS}"
        )
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith("INFO:")]
    for message, advice in KNOWN_FAILURES:
        for line in lines:
            if message in line:
                return f"{advice}\nThe message was: {line.strip()}"
    return "\n".join(lines)
