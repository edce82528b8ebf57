"""Float networks: cut, and said with the operators that the Edge TPU has."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head
from edgetpu_retrain.tflite import metadata
from edgetpu_retrain.tflite.append_head import append_head
from edgetpu_retrain.tflite.edgetpu_operators import SUPPORTED, check_operators
from edgetpu_retrain.tflite.float_network import float_extractor, is_float
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import cut_reason, truncate
from tests import models as look

POOL = "MobilenetV1/Logits/AvgPool_1a/AvgPool"


def read(folder: Path, name: str) -> bytes:
    return (folder / f"{name}.tflite").read_bytes()


def read_by_last_layer(content: bytes, layer: str, image: np.ndarray) -> np.ndarray:
    """What a network's last layer reads, by the runtime."""
    model = look.unpack(content)
    kinds = [kind for kind, _ in look.operators(model)]
    last = model.subgraphs[0].operators[len(kinds) - 1 - kinds[::-1].index(layer)]
    runtime = look.runtime(content, "reference", experimental_preserve_all_tensors=True)
    look.invoke(runtime, image)
    return runtime.get_tensor(last.inputs[0])


def test_only_networks_that_compute_in_float_are_float(made: Path, tmp_path: Path):
    assert is_float(made / "float.tflite")
    assert not is_float(made / "int8.tflite")
    assert not is_float(made / "classifier.tflite")

    def float_ends(model: schema.ModelT) -> None:
        model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].type = schema.TensorType.FLOAT32

    # As TensorFlow quantizes where inference_input_type is left out.
    (tmp_path / "ends.tflite").write_bytes(look.changed(read(made, "int8"), float_ends))
    assert not is_float(tmp_path / "ends.tflite")
    (tmp_path / "damaged.tflite").write_bytes(read(made, "float")[:200])
    assert not is_float(tmp_path / "damaged.tflite")
    assert not is_float(tmp_path / "absent.tflite")


def test_the_last_layer_is_cut_off(made: Path):
    content = read(made, "float")
    extractor = float_extractor(Model.parse(content, "x"), width=256)
    image = np.random.default_rng(0).uniform(-1, 1, (96, 96, 3)).astype(np.float32)
    found = look.invoke(look.runtime(extractor.to_bytes(), "reference"), image)
    np.testing.assert_array_equal(found, read_by_last_layer(content, "CONV_2D", image))
    assert np.ptp(found) > 0.1
    named = float_extractor(Model.parse(content, "x"), tensor=POOL)
    assert named.to_bytes() == extractor.to_bytes()
    with pytest.raises(UserError, match="embeddings with 256 values; the backbone's width is 1000"):
        float_extractor(Model.parse(content, "x"), width=1000)


@pytest.mark.parametrize(
    ("name", "replaced"),
    [
        ("odd", {"HARD_SWISH", "LEAKY_RELU", "PRELU", "SHAPE", "PACK", "RELU6", "EXPAND_DIMS"}),
        ("largest", {"REDUCE_MAX"}),
    ],
)
def test_operators_that_the_edge_tpu_has_not_are_replaced(
    float_networks: Path, name: str, replaced: set[str]
):
    content = read(float_networks, name)
    before = {operator for operator, _ in look.operators(look.unpack(content))}
    network = Model.parse(content, name)
    # Of "odd", the layer in front of the last is narrower than the pool, and would go, too.
    layers = [op for op in network.operators if op.name == "FULLY_CONNECTED"]
    extractor = float_extractor(network, tensor=network.tensor(layers[-1].inputs[0]).name)
    after = {operator for operator, _ in look.operators(look.unpack(extractor.to_bytes()))}
    assert replaced <= before
    assert not after & replaced
    assert after <= SUPPORTED - {"PRELU"}
    check_operators(extractor)
    image = np.random.default_rng(0).uniform(-1, 1, (16, 16, 3)).astype(np.float32)
    found = look.invoke(look.runtime(extractor.to_bytes()), image)
    wanted = read_by_last_layer(content, "FULLY_CONNECTED", image)
    np.testing.assert_allclose(found.ravel(), wanted.ravel(), rtol=1e-4, atol=1e-6)
    assert np.ptp(found) > 0.01


def test_the_default_is_the_pooled_vector_before_narrower_hidden_layers(
    float_networks: Path, caplog: pytest.LogCaptureFixture
):
    """As Teachable Machine and Frigate end their networks; `tensor` has its way."""
    caplog.set_level("INFO")
    content = read(float_networks, "headed")
    pooled = float_extractor(Model.parse(content, "x"), width=8)
    assert [name for name, _ in look.operators(look.unpack(pooled.to_bytes()))] == [
        "CONV_2D",
        "MEAN",
    ]
    assert "Mean' float32 [1, 8], the pooled vector, because the hidden layers" in caplog.text
    # The reason stays in the file, for the report.
    assert cut_reason(Model.parse(pooled.to_bytes(), "x")) in caplog.text
    assert cut_reason(pooled).startswith("The network is cut at ")
    hidden = caplog.text.rpartition("set tensor: ")[2].strip().rstrip(".")
    narrow = float_extractor(Model.parse(content, "x"), hidden, width=4)
    assert narrow.outputs[0].shape == (1, 4)
    assert cut_reason(narrow) == ""


def test_the_pooled_vector_of_a_quantized_network(float_networks: Path):
    extractor = truncate(Model.parse(read(float_networks, "headed_int8"), "x"))
    assert "the pooled vector" in cut_reason(extractor)
    classes = ("a", "b")
    head = Head(np.zeros((8, 2), np.float32), np.zeros(2, np.float32), None, classes)
    delivered = metadata.with_class_names(append_head(extractor, head), classes)
    assert cut_reason(Model.parse(delivered, "x")) == cut_reason(extractor)
    assert extractor.outputs[0].shape == (1, 8)
    image = np.random.default_rng(0).uniform(0, 1, (16, 16, 3)).astype(np.float32)
    found = look.invoke(look.runtime(extractor.to_bytes(), "reference"), image)
    assert np.ptp(found.astype(int)) > 20


def test_a_hidden_layer_that_is_wider_than_the_pool_stays(float_networks: Path):
    """As in MobileNetV3, where it was trained with all the rest, on many classes."""
    extractor = float_extractor(Model.parse(read(float_networks, "widened"), "x"))
    assert extractor.outputs[0].shape == (1, 20)


def test_a_network_without_a_last_layer_is_taken_whole(float_networks: Path):
    content = read(float_networks, "largest")
    pooled = float_extractor(Model.parse(content, "x")).to_bytes()
    again = float_extractor(Model.parse(pooled, "x")).to_bytes()
    assert look.operators(look.unpack(again)) == look.operators(look.unpack(pooled))


def takes(*shape: int) -> Callable[[schema.ModelT], None]:
    def change(model: schema.ModelT) -> None:
        model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].shape = list(shape)

    return change


def any_size(model: schema.ModelT) -> None:
    model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].shapeSignature = [-1, -1, -1, 3]


def two_inputs(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.inputs = [graph.inputs[0], graph.inputs[0]]


def two_outputs(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.outputs = [graph.outputs[0], graph.operators[0].outputs[0]]


def picture_out(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.outputs = [graph.operators[0].outputs[0]]


def loops(model: schema.ModelT) -> None:
    model.subgraphs.append(model.subgraphs[0])


def half(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.tensors[graph.operators[0].inputs[1]].type = schema.TensorType.FLOAT16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (takes(1, 10, 8), r"net has an input of shape \[1, 10, 8\]; expected one RGB image"),
        (takes(1, 96, 96, 4), r"has an input of shape \[1, 96, 96, 4\]; expected one RGB image"),
        (any_size, "input of variable size, or for several images at a time"),
        (two_inputs, "has 2 inputs"),
        (two_outputs, "has 2 outputs, so it is not a classifier"),
        (picture_out, r"has an output of shape \[1, 48, 48, \d+\].*one vector"),
        (loops, "has 2 subgraphs, as recurrent networks do"),
        (half, "as float16 but computes in float"),
    ],
)
def test_what_is_not_an_image_classifier_is_refused(made: Path, change, message: str):
    network = Model.parse(look.changed(read(made, "float"), change), "net")
    with pytest.raises(UserError, match=message):
        float_extractor(network)


def test_operators_without_a_replacement_are_named_with_their_place(made: Path):
    extractor = float_extractor(Model.parse(read(made, "float"), "net"))

    def gelu(model: schema.ModelT) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode = schema.BuiltinOperator.GELU, 127
        model.operatorCodes.append(code)
        model.subgraphs[0].operators[3].opcodeIndex = len(model.operatorCodes) - 1

    name = extractor.tensor(extractor.operators[3].outputs[0]).name
    changed = Model.parse(look.changed(extractor.to_bytes(), gelu), "net")
    with pytest.raises(
        UserError, match=rf"(?s)the Edge TPU does not support: GELU \(1\).*GELU -> '{name}'"
    ):
        check_operators(changed)
    check_operators(changed, allow_cpu_operators=True)
