"""List the attached Edge TPUs, and diagnose why one cannot be used."""

import ctypes
import importlib
import platform
import re
from pathlib import Path

from edgetpu_retrain.errors import UserError

_EDGETPU_LIBRARIES = {
    "Linux": "libedgetpu.so.1",
    "Darwin": "libedgetpu.1.dylib",
    "Windows": "edgetpu.dll",
}
# (vendor, product) of the USB Accelerator before and after its first use since it was plugged in.
_USB_IDS = {("1a6e", "089a"), ("18d1", "9302")}


def list_edge_tpus() -> list[str]:
    """Returns the names of the Edge TPUs that the runtime finds, as in ``["usb:0", "pci:0"]``.

    The list comes from PyCoral if it is installed, otherwise from the Edge TPU library's C API
    (``edgetpu_list_devices`` in edgetpu_c.h). Neither opens a device.
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
        library = ctypes.CDLL(library_name())
        count = ctypes.c_size_t()
        library.edgetpu_list_devices.restype = ctypes.POINTER(_Device)
        devices = library.edgetpu_list_devices(ctypes.byref(count))
    except (OSError, AttributeError):
        return []
    kinds = [{0: "pci", 1: "usb"}[devices[i].type] for i in range(count.value)]
    library.edgetpu_free_devices(devices)
    return kinds


def library_name() -> str:
    """Returns the file name of the Edge TPU library on this operating system."""
    return _EDGETPU_LIBRARIES[platform.system()]


def resolve_device(device: str) -> str:
    """Returns the device to run on: ``cpu``, or the name of an Edge TPU.

    Args:
        device: ``auto`` (an Edge TPU if there is one, else the CPU), ``cpu``, ``usb``, ``pci``,
            ``usb:N`` or ``pci:N``. A named device is not checked before it is used.

    Raises:
        UserError: `device` is none of these.
    """
    if not re.fullmatch(r"auto|cpu|(usb|pci)(:\d+)?", device):
        raise UserError(f"{device!r} is not a device. Use auto, cpu, usb, pci, usb:N or pci:N.")
    if device != "auto":
        return device
    return next(iter(list_edge_tpus()), "cpu")


def diagnosis() -> str:
    """Returns the likely reasons why an Edge TPU cannot be used, one per line, likeliest first."""
    causes = []
    library = library_name()
    try:
        ctypes.CDLL(library)
    except OSError:
        causes.append(
            f"The Edge TPU runtime is not installed ({library} cannot be loaded). Install "
            "libedgetpu1-std, or a build for newer TFLite runtimes from "
            "https://github.com/feranick/libedgetpu/releases"
        )
    names = list_edge_tpus()
    if names:
        causes.append(f"The runtime finds these devices, so use one of them: {', '.join(names)}")
    elif platform.system() == "Linux" and not _is_attached():
        causes.append(
            "No device is plugged in: there is neither a USB Accelerator (1a6e:089a, or 18d1:9302 "
            "after its first use) nor a PCIe device (/dev/apex_0)"
        )
    causes += [
        "Another process, often Frigate, is using it: only one process at a time can",
        "You do not have permission: add yourself to the group plugdev (USB) or apex (PCIe), then "
        "log in again",
        "It is on a USB 2 port or the power supply is weak: use a USB 3 port, without a hub",
    ]
    return "Likely causes:\n" + "\n".join(f"  - {cause}" for cause in causes)


def _is_attached() -> bool:
    """Returns whether Linux sees an Edge TPU, with or without the runtime."""
    if any(Path("/dev").glob("apex_*")):
        return True
    for vendor in Path("/sys/bus/usb/devices").glob("*/idVendor"):
        product = vendor.with_name("idProduct")
        if (vendor.read_text().strip(), product.read_text().strip()) in _USB_IDS:
            return True
    return False
