"""Whether compiled files hold their twins' weights: published pairs, and what was changed in them.

What a device makes of a rewritten file was not tried: there is none here.
"""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.backbone.compiled import take_compiled
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.tflite.checks import check_weights
from edgetpu_retrain.tflite.edgetpu_package import read_packages
from edgetpu_retrain.tflite.edgetpu_parameters import lay_out
from edgetpu_retrain.tflite.edgetpu_twin import compare, rewrite_parameters
from edgetpu_retrain.tflite.model import Model
from tests import stand_ins

EXTRACTOR = "mobilenet_v1_1.0_224_quant_embedding_extractor"
CLASSIFIER = "mobilenet_v1_0.25_128_quant"
WEIGHTS, BIASES = 1, 2


@pytest.fixture(scope="module")
def extractor(models: Path) -> Model:
    return Model.load(models / f"{EXTRACTOR}.tflite")


@pytest.fixture(scope="module")
def compiled(models: Path) -> Path:
    return models / f"{EXTRACTOR}_edgetpu.tflite"


def constants(model: Model, layer: str) -> tuple[int, ...]:
    """The inputs of the operator whose output is called so."""
    (inputs,) = (
        operator.inputs
        for operator in model.operators
        if f"/{layer}/" in model.tensor(operator.outputs[0]).name
    )
    return inputs


def with_values(model: Model, values: dict[int, np.ndarray]) -> Model:
    changed = model.copy()
    for index, array in values.items():
        changed.set_constant(index, array)
    return changed


def with_one_changed(model: Model, layer: str, which: int) -> Model:
    index = constants(model, layer)[which]
    values = model.constant(index).copy()
    values[len(values) // 2] ^= 1
    return with_values(model, {index: values})


def with_other_weights(model: Model) -> Model:
    chance, values = np.random.default_rng(0), {}
    for operator in model.operators:
        if len(operator.inputs) == 3:
            count = len(model.constant(operator.inputs[WEIGHTS]))
            values[operator.inputs[WEIGHTS]] = chance.integers(0, 256, count, np.uint8)
    return with_values(model, values)


def with_package(compiled: Model, package: bytes) -> Model:
    changed = compiled.copy()
    changed.subgraph.operators[0].customOptions = np.frombuffer(package, np.uint8)
    return changed


@pytest.mark.parametrize(("name", "size"), [(EXTRACTOR, 3_363_072), (CLASSIFIER, 566_912)])
def test_published_pairs_are_proven_in_every_byte(models: Path, name: str, size: int):
    pair = [Model.load(models / f"{name}{twin}.tflite") for twin in ("", "_edgetpu")]
    proof = check_weights(*pair)
    assert proof.whole
    assert str(proof) == f"has the same weights: {size:,} of {size:,} bytes"


@pytest.mark.parametrize("which", [WEIGHTS, BIASES])
@pytest.mark.parametrize("layer", ["Conv2d_0", "Conv2d_5_depthwise", "Conv2d_13_pointwise"])
def test_one_changed_number_is_found(extractor: Model, compiled: Path, layer: str, which: int):
    changed = with_one_changed(extractor, layer, which)
    with pytest.raises(UserError, match=rf"the first layer that differs is \w+ '.*/{layer}/Relu6'"):
        check_weights(changed, Model.load(compiled))


def test_two_exchanged_layers_are_found(extractor: Model, compiled: Path):
    first, second = (constants(extractor, f"Conv2d_{i}_pointwise") for i in (8, 9))
    pairs = [(first[i], second[i]) for i in (WEIGHTS, BIASES)]
    values = {a: extractor.constant(b) for a, b in pairs}
    values |= {b: extractor.constant(a) for a, b in pairs}
    with pytest.raises(UserError, match=r"that differs is CONV_2D '.*/Conv2d_8_pointwise/"):
        check_weights(with_values(extractor, values), Model.load(compiled))


def test_another_network_of_the_same_shapes_is_refused(
    extractor: Model, compiled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    cpu, other = tmp_path / "cpu.tflite", tmp_path / "other.tflite"
    extractor.save(cpu)
    with_other_weights(extractor).save(other)
    taken = tmp_path / "taken.tflite"
    with pytest.raises(UserError, match=r"other weights; .*/Conv2d_0/Relu6'.*other\.tflite"):
        take_compiled(compiled, other, taken, 128, 128, False)
    assert not taken.exists()
    take_compiled(compiled, cpu, taken, 128, 128, False)
    assert "has the same weights: 3,363,072 of 3,363,072 bytes" in caplog.text


def test_a_layer_of_unknown_layout_is_named_and_the_others_compared(
    extractor: Model, compiled: Path
):
    """As which an int8 layer stands here; no pair of an int8 network can be had."""
    layer = "Conv2d_6_pointwise"
    odd = extractor.copy()
    odd.subgraph.tensors[constants(odd, layer)[WEIGHTS]].type = schema.TensorType.INT8
    proof = check_weights(odd, Model.load(compiled))
    # 512 outputs of 256 weights and a bias of 4 bytes.
    assert proof.equal == proof.total - 512 * (256 + 4)
    assert not proof.whole
    assert "1 of 27 layers could not be compared" in str(proof)
    assert f"/{layer}/Relu6'" in str(proof)
    # What differs behind it is found all the same, since its neighbours are in place.
    changed = with_one_changed(odd, "Conv2d_11_depthwise", WEIGHTS)
    with pytest.raises(UserError, match="Conv2d_11_depthwise"):
        check_weights(changed, Model.load(compiled))


def test_a_newer_compiler_may_lay_out_in_another_way(extractor: Model, compiled: Path):
    size = 3_363_072
    other = np.random.default_rng(0).bytes(size)
    newer = with_package(Model.load(compiled), stand_ins.package(other, runtime=14))
    proof = check_weights(extractor, newer)
    assert (proof.equal, proof.total, proof.whole) == (0, size, False)
    assert "27 of 27 layers could not be compared" in str(proof)
    # But one that is seen to lay out in the known way is held to it.
    layers = lay_out(extractor)
    known = b"".join(layer.content for layer in layers)
    newer = with_package(Model.load(compiled), stand_ins.package(known, runtime=14))
    assert check_weights(extractor, newer).whole
    with pytest.raises(UserError, match="Conv2d_5_depthwise"):
        check_weights(with_one_changed(extractor, "Conv2d_5_depthwise", WEIGHTS), newer)


def test_groups_of_zeros_may_follow_a_depthwise_layer(models: Path):
    """The 8 channels of this one are not filled up to 16 in the published file."""
    cpu, published = (
        Model.load(models / f"{CLASSIFIER}{twin}.tflite") for twin in ("", "_edgetpu")
    )
    layers = [layer.content for layer in lay_out(cpu)]
    filled = b"".join([*layers[:2], bytes(len(layers[1])), *layers[2:]])
    assert compare(cpu, with_package(published, stand_ins.package(filled))).whole
    odd = b"".join([*layers[:2], bytes(100), *layers[2:]])
    proof = compare(cpu, with_package(published, stand_ins.package(odd)))
    assert (proof.whole, proof.equal, proof.total) == (False, 566_912, 567_012)


@pytest.mark.parametrize("name", [EXTRACTOR, CLASSIFIER])
def test_rewritten_with_the_published_weights_a_file_is_as_published(models: Path, name: str):
    cpu, compiled = Model.load(models / f"{name}.tflite"), models / f"{name}_edgetpu.tflite"
    assert rewrite_parameters(compiled, cpu, cpu) == compiled.read_bytes()


def test_rewritten_with_changed_weights_only_their_layer_differs(extractor: Model, compiled: Path):
    chance = np.random.default_rng(0)
    inputs = constants(extractor, "Conv2d_13_pointwise")
    weights = chance.integers(0, 256, (1024, 1024), np.uint8)
    biases = chance.integers(-9999, 9999, 1024, np.int32)
    changed = with_values(extractor, {inputs[WEIGHTS]: weights, inputs[BIASES]: biases})
    published = compiled.read_bytes()
    rewritten = rewrite_parameters(compiled, extractor, changed)
    assert len(rewritten) == len(published)
    start = published.index(bytes(read_packages(Model.load(compiled))[0].executables[1].parameters))
    # The last layer: 16 groups of 64 outputs, each with 64 biases and 64 x 1024 weights.
    group, count = 64 * 4 + 64 * 1024, 16
    first = start + 3_363_072 - count * group
    end = start + 3_363_072
    assert rewritten[:first] == published[:first]
    assert rewritten[end:] == published[end:]
    # Read back by what was found on devices for dense layers (LibrEdgeTPU), output by output.
    layer = np.frombuffer(rewritten, np.uint8, count * group, first)
    row, column = np.arange(1024)[:, np.newaxis], np.arange(1024)
    at = row // 64 * group + 256 + column // 4 * 256 + row % 64 * 4 + column % 4
    np.testing.assert_array_equal(layer[at], weights)
    sums = layer.reshape(count, group)[:, :256].copy().view("<i4").ravel()
    np.testing.assert_array_equal(sums, biases)


def test_one_changed_weight_changes_one_byte_of_a_file(extractor: Model, compiled: Path):
    changed = with_one_changed(extractor, "Conv2d_3_pointwise", WEIGHTS)
    rewritten = rewrite_parameters(compiled, extractor, changed)
    pairs = zip(rewritten, compiled.read_bytes(), strict=True)
    assert sum(new != old for new, old in pairs) == 1


def test_what_is_not_on_the_same_grid_is_not_written(extractor: Model, compiled: Path):
    scaled = with_one_changed(extractor, "Conv2d_3_pointwise", WEIGHTS)
    index = constants(scaled, "Conv2d_3_pointwise")[WEIGHTS]
    scaled.subgraph.tensors[index].quantization.scale = [0.5]
    with pytest.raises(UserError, match=r"in 'MobilenetV1/.*/Conv2d_3_pointwise/.*zero points"):
        rewrite_parameters(compiled, extractor, scaled)
    strided = extractor.copy()
    strided.subgraph.operators[0].builtinOptions.strideW = 1
    with pytest.raises(UserError, match="does not have the same operators"):
        rewrite_parameters(compiled, extractor, strided)


def test_a_file_that_is_not_proven_is_not_rewritten(extractor: Model, compiled: Path):
    odd = with_one_changed(extractor, "Conv2d_3_pointwise", WEIGHTS)
    with pytest.raises(UserError, match=r"cannot be given other weights.*Conv2d_3_pointwise"):
        rewrite_parameters(compiled, odd, extractor)
