"""What compiled operators hold, read from published files; the schema's object says the rest."""

import random
import struct
from pathlib import Path

import pytest

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.tflite import __main__ as command_line
from edgetpu_retrain.tflite.edgetpu_package import (
    min_runtime_version,
    read_packages,
    streamed_bytes,
)
from edgetpu_retrain.tflite.model import Model
from tests import stand_ins

EXTRACTOR = "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite"
CLASSIFIER = "mobilenet_v1_0.25_128_quant_edgetpu.tflite"


@pytest.mark.parametrize("name", [EXTRACTOR, CLASSIFIER])
def test_layers_are_those_of_the_models_tensors(models: Path, name: str):
    model = Model.load(models / name)
    (package,) = read_packages(model)
    run, load = package.executables
    assert (run.kind, load.kind) == ("execution", "caching")
    assert not load.inputs and not load.outputs
    for layers, tensors in ((run.inputs, model.inputs), (run.outputs, model.outputs)):
        ((layer,), (tensor,)) = layers, tensors
        assert (layer.name, layer.dtype) == (tensor.name, tensor.dtype)
        assert (layer.scale, layer.zero_point) == (tensor.scale, tensor.zero_point)
        # The device knows no batch, and a vector as one pixel.
        assert layer.shape == (1, 1, 1, *tensor.shape)[-3:]


def test_what_a_published_file_needs_and_caches(models: Path):
    model = Model.load(models / EXTRACTOR)
    (package,) = read_packages(model)
    # Compiled in 2019, for the runtime of then; the figure is that of reference/coral.md.
    assert min_runtime_version(model) == package.min_runtime_version == 12
    assert (package.cached_bytes, package.streamed_bytes) == (3_363_072, 0)
    file = (models / EXTRACTOR).read_bytes()
    assert bytes(package.executables[1].parameters) in file


def test_a_model_for_the_cpu_holds_no_package(models: Path):
    model = Model.load(models / EXTRACTOR.replace("_edgetpu", ""))
    assert read_packages(model) == []
    assert min_runtime_version(model) is None


def test_show_prints_what_a_compiled_file_holds(models: Path, capsys: pytest.CaptureFixture[str]):
    command_line.main(["show", str(models / CLASSIFIER)])
    printed = capsys.readouterr().out
    for part in (
        "needs Edge TPU runtime 12 or later",
        "566,912 bytes cached on the chip, 0 bytes sent again for every image",
        "takes 'input' uint8 [128, 128, 3], scale 0.0078125, zero point 128",
    ):
        assert part in printed


def test_what_is_sent_for_every_image(made: Path):
    """A stand-in: no published file that sends parameters can be had."""
    content = stand_ins.compiled((made / "extractor.tflite").read_bytes(), streamed=bytes(1000))
    model = Model.parse(content, "x.tflite")
    assert streamed_bytes(model) == 1000
    assert "1,000 bytes sent again for every image" in command_line.show(model)
    assert streamed_bytes(Model.load(made / "extractor.tflite")) is None


def damaged(content: bytes, seed: int) -> bytes:
    """A file cut short, with bytes flipped, or with offsets set, in and around its package."""
    chance, broken = random.Random(seed), bytearray(content)
    start = content.index(b"DWN1") - 4
    (root,) = struct.unpack_from("<I", content, start)
    if seed % 3 == 0:
        return content[: chance.randrange(start, len(content))]
    for _ in range(chance.choice([1, 10, 100])):
        # The tables of the package and of its executables, which hold the chip's name.
        near = chance.choice([start + root, content.index(b"beagle"), content.rindex(b"beagle")])
        at = chance.randrange(near - 150, near + 150)
        if seed % 3 == 1:
            broken[at] = chance.randrange(256)
        else:
            value = chance.choice([0, 2**31, 2**32 - 1, chance.randrange(len(content))])
            struct.pack_into("<I", broken, at, value)
    return bytes(broken)


def test_200_damaged_files_are_read_or_refused_in_a_sentence(models: Path):
    content, refused = (models / CLASSIFIER).read_bytes(), []
    for seed in range(200):
        try:
            command_line.show(Model.parse(damaged(content, seed), "x.tflite"))
        except UserError as error:
            refused.append(str(error))
    assert sum("contains a damaged package" in text for text in refused) > 30
    assert all(text.startswith("x.tflite ") for text in refused)
