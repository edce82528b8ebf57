"""Say what is installed, which Edge TPUs are seen, what is missing, and test the models.

`python3 classify.py --check` runs this. Every finding that can be mended says what to type.
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

# What the system tells of its devices stands below here.
SYSTEM = Path("/")
# (vendor, product) before and after the first use since it was plugged in.
USB_IDS = {("1a6e", "089a"), ("18d1", "9302")}
PCI_ID = ("0x1ac1", "0x089a")
BUILDS = "https://github.com/feranick/libedgetpu/releases"
RULE_FOLDERS = ("etc/udev/rules.d", "lib/udev/rules.d", "usr/lib/udev/rules.d")
# What gives a group its devices; the word by which such a rule is known comes first.
USB_RULE = 'SUBSYSTEM=="usb", ATTRS{{idVendor}}=="{}", GROUP="plugdev", MODE="0660"'
RULES = {
    "plugdev": ("1a6e", [USB_RULE.format("1a6e"), USB_RULE.format("18d1")]),
    "apex": ("apex", ['SUBSYSTEM=="apex", GROUP="apex", MODE="0660"']),
}
PARTS = ("model.tflite", "check.png", "check.json")
TIMEOUT = 120
RUNS = 10
# Processors round differently; more than this is another answer.
TOLERANCE = 0.1

# What the runtime says, and what its users found behind it.
KNOWN_FAILURES = (
    (
        "does not fit numpy",
        f"This tflite-runtime was made for an older numpy. Type:\n{classify.PIP} 'numpy<2'",
    ),
    (
        "newer than this runtime version",
        f"The Edge TPU library is too old for this model: install a newer one ({BUILDS}).",
    ),
    (
        "Unsupported data type in custom op handler",
        "The Edge TPU library and the TFLite runtime do not fit each other: take both new "
        f"(ai-edge-litert and a library from {BUILDS}), or both from Google's PyCoral.",
    ),
    (
        "Failed to load delegate",
        "The device is there, but does not answer. Another process may hold it (Frigate, often: "
        "one at a time can; `sudo lsof /dev/bus/usb/*/* /dev/apex_*` shows which), the power "
        "supply or the USB port may be weak: use a USB 3 port without a hub; unplug it, plug it "
        "in again.",
    ),
    (
        "Didn't find op for builtin opcode",
        f"The TFLite runtime is too old for this model. Type:\n  {classify.INSTALL} --upgrade",
    ),
)


class Report:
    """Prints findings, and counts those that must be mended."""

    def __init__(self) -> None:
        self.failures = 0

    def title(self, text: str) -> None:
        """Begins a part of the page."""
        print(f"\n{text}")

    def say(self, text: str) -> None:
        """Prints what is so."""
        print("  " + text.replace("\n", "\n  "))

    def fail(self, text: str) -> None:
        """Prints what is wrong and how to mend it."""
        self.failures += 1
        print("! " + text.replace("\n", "\n  "))


def check() -> bool:
    """Prints the page; returns whether nothing on it must be mended."""
    report = Report()
    print(f"{_system_name()}, {platform.machine()}, Python {platform.python_version()}")
    report.title("Installed")
    runs = _check_packages(report)
    attached = _check_edge_tpus(report)
    report.title("Models")
    model, compiled = classify.HERE / "model.tflite", classify.HERE / "model_edgetpu.tflite"
    missing = [name for name in PARTS if not (classify.HERE / name).is_file()]
    if missing:
        runs = False
        report.fail(f"Missing in this folder: {', '.join(missing)}. Take the whole bundle.")
    if runs:
        _test(report, model, "cpu")
    if compiled.is_file():
        for device in attached if runs else ():
            _test(report, compiled, device)
        if not attached:
            report.say(f"{compiled.name}: not tested, there is no Edge TPU.")
    elif attached:
        report.say("An Edge TPU is there, but no model for it in this bundle.")
    if report.failures:
        print(f"\n{report.failures} to mend: the lines that begin with !")
    else:
        print("\nAll is well: every model that was tested gave the right answer.")
    return not report.failures


def _system_name() -> str:
    try:
        lines = (SYSTEM / "etc/os-release").read_text(encoding="utf-8").splitlines()
        entries = dict(line.split("=", 1) for line in lines if "=" in line)
        return entries["PRETTY_NAME"].strip('"')
    except (OSError, KeyError):
        return platform.system()


def _version(package: str, module: str) -> str:
    """Returns the version of an installed package; raises an ImportError where there is none."""
    imported = importlib.import_module(module)
    try:
        return importlib.import_module("importlib.metadata").version(package)
    # Python 3.7 has no such module; a package of the system may have no metadata.
    except ImportError:
        return getattr(imported, "__version__", "of unknown version")


def _check_packages(report: Report) -> bool:
    """Says which packages there are; returns whether a model can be run."""
    complete = True
    for package, module in (("numpy", "numpy"), ("Pillow", "PIL")):
        try:
            report.say(f"{package} {_version(package, module)}")
        except ImportError as error:
            complete = False
            report.fail(f"{package} cannot be used ({error}). Type:\n{classify.INSTALL}")
    if complete:
        try:
            package, runtime = classify.find_runtime()
            report.say(f"{package} {_version(package, runtime.__name__)}")
        except classify.UserError as problem:
            complete = False
            report.fail(str(problem))
    try:
        importlib.import_module("pycoral.utils.edgetpu")
        report.say(f"PyCoral {_version('pycoral', 'pycoral')}")
    except ImportError:
        if _is_there("pycoral"):
            report.say("The package pycoral here is not Google's PyCoral; it is not used.")
    if _is_there("cv2"):
        report.say(f"OpenCV {importlib.import_module('cv2').__version__}")
    else:
        report.say("OpenCV is not installed; only --camera needs it.")
    return complete


def _is_there(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _check_edge_tpus(report: Report) -> list[str]:
    """Says what is known of the Edge TPUs; returns the names of those to test."""
    report.title("Edge TPU")
    name, library = classify.library_name(), None
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        reason = str(error)
    listed = classify.list_edge_tpus()
    usb, pci = _usb_devices(), _pci_nodes()
    plugged_in = bool(usb or pci or listed)
    # A machine without any Edge TPU lacks nothing.
    warn = report.fail if plugged_in else report.say
    if library is not None:
        version = _library_version(library)
        report.say(f"{name}: {version}")
        _check_runtime(report, version)
    elif "libusb" in reason:
        warn(f"{name} needs libusb. Type:\nsudo apt-get install libusb-1.0-0")
    elif f"{name}: cannot open" in reason or "not found" in reason:
        warn(f"{name} is not installed. README.md says how, for each system.")
    else:
        warn(f"{name} is installed, but cannot be loaded: {reason}")
    for node, speed in usb:
        report.say(f"USB: {node}, {speed} Mbit/s")
        if speed.isdecimal() and int(speed) < 5000:
            report.say("This is the speed of USB 2: slow; a USB 3 port and cable are faster.")
        _check_node(report, node, "plugdev")
    for node in pci:
        report.say(f"PCIe: {node}")
        if node.name.startswith("apex"):
            _check_node(report, node, "apex")
        else:
            report.fail(
                "The PCIe device has no /dev/apex_0: its driver is missing. Google's gasket-dkms "
                "does not build on new kernels; "
                "https://github.com/feranick/gasket-driver/releases has builds that do.\n"
                "On a Raspberry Pi 5, kernel=kernel8.img in /boot/firmware/config.txt is needed."
            )
    if not plugged_in:
        report.say("No Edge TPU is plugged in: `lsusb` shows 1a6e:089a, or 18d1:9302 after use.")
    elif library is not None and not listed:
        report.fail("The library does not find the device. Plug it in again, look at the above.")
    elif listed:
        report.say(f"The library finds {', '.join(listed)}")
    return listed


def _library_version(library: Any) -> str:
    try:
        library.edgetpu_version.restype = ctypes.c_char_p
        return library.edgetpu_version().decode()
    except AttributeError:
        return "of unknown version"


def _check_runtime(report: Report, version: str) -> None:
    """Says whether the library is older than the model for the Edge TPU needs."""
    path = classify.HERE / "check.json"
    expected = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    needed, found = expected.get("edgetpu_runtime"), re.search(r"RuntimeVersion\((\d+)\)", version)
    if needed and found and int(found.group(1)) < needed:
        report.fail(
            f"model_edgetpu.tflite needs Edge TPU runtime {needed} or later, this library is "
            f"{found.group(1)}: install a newer one ({BUILDS})."
        )


def _usb_devices() -> list[tuple[Path, str]]:
    """Returns the device node and the speed in Mbit/s of every USB Accelerator."""
    found = []
    for folder in sorted(SYSTEM.glob("sys/bus/usb/devices/*")):
        known = {
            name: (folder / name).read_text().strip()
            for name in ("idVendor", "idProduct", "busnum", "devnum", "speed")
            if (folder / name).is_file()
        }
        if (known.get("idVendor"), known.get("idProduct")) in USB_IDS:
            bus, device = int(known.get("busnum", 0)), int(known.get("devnum", 0))
            node = SYSTEM / f"dev/bus/usb/{bus:03d}/{device:03d}"
            found.append((node, known.get("speed", "unknown")))
    return found


def _pci_nodes() -> list[Path]:
    """Returns the device nodes of PCIe Edge TPUs, or the devices themselves without a driver."""
    nodes = sorted(SYSTEM.glob("dev/apex_*"))
    devices = [
        folder
        for folder in sorted(SYSTEM.glob("sys/bus/pci/devices/*"))
        if all((folder / name).is_file() for name in ("vendor", "device"))
        and tuple((folder / n).read_text().strip() for n in ("vendor", "device")) == PCI_ID
    ]
    return nodes or devices


def _check_node(report: Report, node: Path, group: str) -> None:
    """Says whether this user may use a device, and who else has it open."""
    if not node.exists():
        report.fail(
            f"{node} is not there. In a container, pass it on: docker run --device /dev/bus/usb"
        )
    elif not os.access(node, os.R_OK | os.W_OK):
        commands = [f"sudo usermod -aG {group} $USER"]
        word, rules = RULES[group]
        if not _has_rule(word):
            commands = [f"sudo groupadd -f {group}", *commands]
            to = f"| sudo tee -a /etc/udev/rules.d/99-{group}-edgetpu.rules"
            commands += [f"echo '{rule}' {to}" for rule in rules]
        lines = "\n".join(commands)
        report.fail(f"You may not use {node}. Type, then restart the machine:\n{lines}")
    for process in _holders(node):
        report.fail(f"{process} has {node} open: only one process can use it at a time. End it.")


def _has_rule(word: str) -> bool:
    files = (file for folder in RULE_FOLDERS for file in (SYSTEM / folder).glob("*.rules"))
    return any(word in file.read_text(errors="replace") for file in files)


def _holders(node: Path) -> list[str]:
    """Returns the processes that have a device open, as far as this user may see them."""
    found = []
    for folder in SYSTEM.glob("proc/[0-9]*"):
        try:
            if any(os.readlink(file) == str(node) for file in (folder / "fd").iterdir()):
                found.append(f"{(folder / 'comm').read_text().strip()} (process {folder.name})")
        except OSError:
            continue
    return found


def _test(report: Report, model: Path, device: str) -> None:
    """Runs a model on the bundle's picture and compares its answer with the one in check.json."""
    label = f"{model.name} on {'the CPU' if device == 'cpu' else f'the Edge TPU {device}'}"
    expected = json.loads((classify.HERE / "check.json").read_text(encoding="utf-8"))
    picture = str(classify.HERE / "check.png")
    command = [sys.executable, str(classify.HERE / "classify.py"), *[picture] * RUNS, "--json"]
    command += ["--model", str(model), "--device", device, "--top_k", str(len(expected["scores"]))]
    try:
        # In a process of its own, since a runtime that does not fit can crash or hang.
        done = subprocess.run(
            command, capture_output=True, timeout=TIMEOUT, text=True, encoding="utf-8"
        )
    except subprocess.TimeoutExpired:
        report.fail(
            f"{label}: no answer within {TIMEOUT} seconds. Unplug the device, plug it in again; "
            "use a USB 3 port without a hub."
        )
        return
    if done.returncode != 0:
        report.fail(f"{label}: {_cause(done, device)}")
        return
    results = [json.loads(line) for line in done.stdout.splitlines()]
    scores = {entry["name"]: entry["score"] for entry in results[-1]["classes"]}
    if set(scores) != set(expected["scores"]):
        report.fail(f"{label}: its classes are not those of check.json. Take a whole bundle.")
        return
    difference = max(abs(scores[name] - score) for name, score in expected["scores"].items())
    best = max(scores, key=lambda name: scores[name])
    milliseconds = statistics.median(result["milliseconds"] for result in results[1:])
    answer = f"{label}: {best} {scores[best]:.3f}, in {milliseconds:.1f} ms"
    if best != expected["class"] or difference > TOLERANCE:
        wanted = expected["scores"][expected["class"]]
        report.fail(f"{answer}. Wrong: it should be {expected['class']} {wanted:.3f}.")
        return
    exact = "as it should be" if difference == 0 else f"within {difference:.3f} of what it was"
    report.say(f"{answer}, {exact}.")


def _cause(done: subprocess.CompletedProcess[str], device: str) -> str:
    """Returns why a test failed, with what to do where that is known."""
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        text = f"the runtime crashed ({name}). "
        if name == "SIGILL":
            return text + "This processor lacks instructions that it was built for."
        if device == "cpu":
            return text + f"Is the model file whole? ai-edge-litert says. Type:\n{classify.INSTALL}"
        return text + (
            "The Edge TPU library and the TFLite runtime do not fit each other: Google's library "
            "is of TensorFlow 2.5's time and crashes with newer runtimes. Install a library of "
            f"2024 or later from {BUILDS}"
        )
    said = [line for line in done.stderr.splitlines() if line and not line.startswith("INFO:")]
    for words, advice in KNOWN_FAILURES:
        for line in said:
            if words in line:
                return f"{advice}\nIt said: {line.strip()}"
    return "\n".join(said)
