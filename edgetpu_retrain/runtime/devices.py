"""Which Edge TPUs there are, and why one cannot be used."""

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
# (vendor, product) before and after the first use since it was plugged in.
_USB_IDS = {("1a6e", "089a"), ("18d1", "9302")}


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
    """Returns the file name of the Edge TPU library on this system."""
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
        raise UserError(f"{device!r} is not a device: use auto, cpu, usb, pci, usb:N or pci:N.")
    if device != "auto":
        return device
    return next(iter(list_edge_tpus()), "cpu")


def diagnosis() -> str:
    """Says what is known of the machine, then the likely causes, likeliest first."""
    causes = []
    library = library_name()
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
