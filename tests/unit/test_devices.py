"""Which Edge TPUs there are, as stand-ins for the runtime's libraries have it."""

import sys
import types

import pytest

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.runtime import devices, interpreter
from edgetpu_retrain.runtime.devices import list_edge_tpus, resolve_device


@pytest.fixture(autouse=True)
def no_pycoral(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pycoral.utils.edgetpu", None)


def test_no_library_is_no_edge_tpu(no_library):
    assert list_edge_tpus() == []
    assert resolve_device("auto") == "cpu"


def test_devices_of_the_edge_tpu_library(stand_in_library):
    assert list_edge_tpus() == ["usb:0", "usb:1", "pci:0"]
    assert resolve_device("auto") == "usb:0"
    assert resolve_device("pci") == "pci"


def test_the_real_pycoral_is_asked(no_library, monkeypatch):
    edgetpu = types.ModuleType("pycoral.utils.edgetpu")
    edgetpu.list_edge_tpus = lambda: [{"type": "pci", "path": "/dev/apex_0"}]
    for name in ("pycoral", "pycoral.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "pycoral.utils.edgetpu", edgetpu)
    assert list_edge_tpus() == ["pci:0"]


def test_the_impostor_pycoral_is_not_asked(stand_in_library, monkeypatch):
    # The package of this name on PyPI is about coral reefs and has no pycoral.utils.
    monkeypatch.setitem(sys.modules, "pycoral", types.ModuleType("pycoral"))
    assert list_edge_tpus() == ["usb:0", "usb:1", "pci:0"]


def test_what_is_not_a_device_is_refused():
    for name in ("gpu", "usb:", "CPU", "usb:1x", ""):
        with pytest.raises(UserError, match=rf"'{name}' is not a device. Use auto, cpu, usb"):
            resolve_device(name)
    assert resolve_device("usb:12") == "usb:12"


def test_likely_causes_begin_with_what_is_known(no_library):
    causes = devices.diagnosis().splitlines()
    assert causes[0] == "Likely causes:"
    assert "not installed (libedgetpu-that-is-not-there.so cannot be loaded)" in causes[1]
    for cause in ("Frigate", "plugdev", "USB 2"):
        assert cause in "\n".join(causes)


def test_devices_that_are_found_are_named(stand_in_library):
    assert "finds these devices, so use one of them: usb:0, usb:1, pci:0" in devices.diagnosis()


def test_a_missing_device_is_said_before_training(no_library):
    with pytest.raises(UserError, match=r"No Edge TPU was found. Likely causes:\n.*not installed"):
        interpreter.check_edge_tpu()


def test_a_device_that_cannot_be_opened_is_said_before_training(stand_in_library):
    # The stand-in lists devices and makes no delegate, as where another process uses the device.
    with pytest.raises(UserError, match=r"'usb:0' cannot be used. Likely causes:"):
        interpreter.check_edge_tpu()


def test_a_device_that_can_be_opened_is_named(stand_in_library, monkeypatch):
    monkeypatch.setattr(interpreter, "_runtime", lambda: (None, lambda library, options: options))
    assert interpreter.check_edge_tpu("pci:0") == "pci:0"
