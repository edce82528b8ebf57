"""What an extractor and its compiled twin must be."""

from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.tflite.checks import (
    check_compiled,
    check_extractor,
    check_same_interface,
    check_versions,
)
from edgetpu_retrain.tflite.model import Model
from tests import models as look
from tests import stand_ins


@pytest.fixture(scope="module")
def extractor(made: Path) -> bytes:
    return (made / "extractor.tflite").read_bytes()


def after(content: bytes, change, source: str = "x.tflite") -> Model:
    return Model.parse(look.changed(content, change), source)


def with_a_gap(model: schema.ModelT) -> None:
    (output,) = model.subgraphs[0].operators[4].outputs
    model.subgraphs[0].tensors[output].type = schema.TensorType.FLOAT32


def with_two_inputs(model: schema.ModelT) -> None:
    model.subgraphs[0].inputs = [*model.subgraphs[0].inputs] * 2


def with_two_outputs(model: schema.ModelT) -> None:
    model.subgraphs[0].outputs = [*model.subgraphs[0].outputs] * 2


def with_float_ends(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].type = schema.TensorType.FLOAT32


def with_a_grey_picture(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].shape = [1, 96, 96, 1]


def with_a_feature_map(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.outputs = graph.operators[-2].outputs


def without_shapes(model: schema.ModelT) -> None:
    for tensor in model.subgraphs[0].tensors:
        tensor.shape = None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_a_gap, "only partly quantized: CONV_2D would compute in float"),
        (with_two_inputs, "2 inputs; an extractor has one"),
        (with_two_outputs, "2 outputs; an extractor has one"),
        (with_float_ends, "input of type float32.*inference_input_type"),
        (with_a_grey_picture, r"has an input of shape \[1, 96, 96, 1\]"),
        (with_a_feature_map, r"has an output of shape \[1, 3, 3, 256\]; an embedding is a vector"),
        (without_shapes, r"has an input of shape \[\]"),
    ],
)
def test_what_is_not_an_extractor_is_refused(extractor: bytes, change, reason):
    check_extractor(Model.parse(extractor, "x.tflite"))
    with pytest.raises(UserError, match=rf"^x\.tflite .*{reason}"):
        check_extractor(after(extractor, change))


def test_another_width_than_expected_is_refused(extractor: bytes):
    check_extractor(Model.parse(extractor, "x.tflite"), 256)
    with pytest.raises(UserError, match="256 values; the backbone's width is 1024"):
        check_extractor(Model.parse(extractor, "x.tflite"), 1024)


@pytest.mark.parametrize("name", ["classifier", "int8"])
def test_a_whole_classifier_is_not_taken_for_an_extractor(made: Path, name):
    with pytest.raises(UserError, match=r"whole classifier \(it ends in SOFTMAX\).* as tflite"):
        check_extractor(Model.load(made / f"{name}.tflite"))


def test_the_published_extractors_are_extractors(models: Path):
    name = "mobilenet_v1_1.0_224_quant_embedding_extractor"
    cpu, compiled = (Model.load(models / f"{name}{twin}.tflite") for twin in ("", "_edgetpu"))
    check_extractor(cpu, 1024)
    check_extractor(compiled, 1024)
    check_versions(cpu)
    check_compiled(compiled)
    check_same_interface(cpu, compiled)
    other = Model.load(models / "mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    with pytest.raises(UserError, match=r"128_quant_edgetpu\.tflite differs in input, output"):
        check_same_interface(cpu, other)


@pytest.mark.parametrize(
    ("operator", "version", "known"),
    [("CONV_2D", 6, 5), ("DEPTHWISE_CONV_2D", 99, None), ("AVERAGE_POOL_2D", 2, None)],
)
def test_a_version_that_the_compiler_does_not_know(extractor: bytes, operator, version, known):
    """The facts name four operators whose versions were raised; CONV_2D is the commonest."""

    def change(model: schema.ModelT) -> None:
        for code in model.operatorCodes:
            if look.NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)] == operator:
                code.version = version

    model = after(extractor, change)
    if known is None:
        check_versions(model)
    else:
        with pytest.raises(UserError, match=rf"{operator} in version {version};.* version {known}"):
            check_versions(model)


def test_what_is_not_compiled_or_only_in_part(extractor: bytes):
    with pytest.raises(UserError, match="no operator with a DarwiNN package"):
        check_compiled(Model.parse(extractor, "x.tflite"))
    check_compiled(Model.parse(stand_ins.compiled(extractor), "x.tflite"))
    part = Model.parse(stand_ins.compiled(extractor, on_cpu=True), "x.tflite")
    with pytest.raises(
        UserError, match=r"only partly compiled: its operators are edgetpu-custom-op, RESHAPE"
    ):
        check_compiled(part)
    check_compiled(part, allow_cpu_operators=True)


def test_a_custom_operator_without_a_package_is_not_compiled(extractor: bytes):
    """As the package edgecompiler makes it."""

    def change(model: schema.ModelT) -> None:
        model.subgraphs[0].operators[0].customOptions = list(b"made up")

    impostor = look.changed(stand_ins.compiled(extractor), change)
    with pytest.raises(UserError, match="edgecompiler on PyPI is not"):
        check_compiled(Model.parse(impostor, "x.tflite"))


def test_twins_take_and_give_the_same(extractor: bytes):
    cpu = Model.parse(extractor, "cpu.tflite")
    check_same_interface(cpu, Model.parse(stand_ins.compiled(extractor), "x.tflite"))
    other = Model.parse(stand_ins.compiled(extractor, other_output=True), "x.tflite")
    with pytest.raises(
        UserError, match=r"x\.tflite differs in input, output or quantization from cpu\."
    ):
        check_same_interface(cpu, other)
