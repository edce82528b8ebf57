"""Versions of operators: lowered to what is used, kept where that needs them."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.backbone import kinds
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.tflite.checks import check_versions
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import truncate
from edgetpu_retrain.tflite.versions import lower_versions
from tests import models as look


def raised(model: schema.ModelT, version: int = 6) -> None:
    for code in model.operatorCodes:
        code.version = version


def parse(content: bytes) -> Model:
    return Model.parse(content, "x.tflite")


@pytest.mark.parametrize(
    "name", ["mobilenet_v2_1.0_224_quant.tflite", "tf2_mobilenet_v2_1.0_224_ptq.tflite"]
)
def test_versions_are_lowered_to_those_of_the_published_file(models: Path, name: str):
    """The files' own converter wrote the versions that their features need."""
    content = (models / name).read_bytes()
    higher = parse(look.changed(content, raised))
    expected = look.operators(look.unpack(content))
    assert look.operators(lower_versions(higher).unpacked) == expected
    assert [version for _, version in look.operators(higher.unpacked)] == [6] * len(expected)
    cut = truncate(higher)
    assert look.operators(cut.unpacked) == expected[: len(cut.operators)]
    # Equal to what is cut of the file itself, to the byte.
    assert cut.to_bytes() == truncate(parse(content)).to_bytes()
    check_versions(cut)


def test_no_version_is_raised(models: Path):
    """This converter writes 1 everywhere, also where a higher one is meant."""
    model = Model.load(models / "efficientnet_lite0_int8_offset_buffers.tflite")
    assert {version for _, version in look.operators(lower_versions(model).unpacked)} == {1}


def changed_operator(content: bytes, name: str, change) -> bytes:
    def apply(model: schema.ModelT) -> None:
        raised(model, 7)
        for operator, (found, _) in zip(
            model.subgraphs[0].operators, look.operators(model), strict=True
        ):
            if found == name:
                change(model, operator)

    return look.changed(content, apply)


def in_groups(model: schema.ModelT, operator: schema.OperatorT) -> None:
    weights = model.subgraphs[0].tensors[operator.inputs[1]]
    weights.shape = [*weights.shape[:3], int(weights.shape[3]) // 2]


def dilated(model: schema.ModelT, operator: schema.OperatorT) -> None:
    operator.builtinOptions.dilationHFactor = 2


def in_16_bits(model: schema.ModelT, operator: schema.OperatorT) -> None:
    model.subgraphs[0].tensors[operator.inputs[0]].type = schema.TensorType.INT16


def without_options(model: schema.ModelT, operator: schema.OperatorT) -> None:
    operator.builtinOptions, operator.builtinOptionsType = None, 0


@pytest.mark.parametrize(
    ("name", "change", "needed"),
    [
        ("CONV_2D", in_groups, 6),
        ("CONV_2D", in_16_bits, 7),
        ("DEPTHWISE_CONV_2D", dilated, 2),
        ("DEPTHWISE_CONV_2D", without_options, 7),
    ],
)
def test_a_version_that_a_feature_needs_is_kept(made: Path, name: str, change, needed: int):
    content = changed_operator((made / "extractor.tflite").read_bytes(), name, change)
    found = look.operators(lower_versions(parse(content)).unpacked)
    assert {version for kind, version in found if kind == name} == {needed}


def test_an_operator_of_several_versions_keeps_each(made: Path):
    def first_only(model: schema.ModelT, operator: schema.OperatorT) -> None:
        if operator is model.subgraphs[0].operators[0]:
            in_groups(model, operator)

    content = changed_operator((made / "extractor.tflite").read_bytes(), "CONV_2D", first_only)
    found = look.operators(lower_versions(parse(content)).unpacked)
    versions = [version for kind, version in found if kind == "CONV_2D"]
    assert versions == [6] + [1] * (len(versions) - 1)


def test_a_lowered_network_computes_the_same(made: Path, tmp_path: Path):
    """And one that a newer converter wrote is made into an extractor that the compiler knows."""
    content = (made / "classifier.tflite").read_bytes()
    path, output = tmp_path / "newer.tflite", tmp_path / "extractor.tflite"
    path.write_bytes(look.changed(content, raised))
    with pytest.raises(UserError, match="CONV_2D in version 6"):
        check_versions(Model.load(path))
    kind = kinds.KINDS["tflite"]
    kind.make_extractor(path, output, width=None, mean=None, std=None, tensor=None)
    check_versions(Model.load(output))
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    one, other = (look.runtime(p.read_bytes()) for p in (output, made / "extractor.tflite"))
    assert look.invoke(one, pixels).tolist() == look.invoke(other, pixels).tolist()


def test_a_version_that_the_compiler_does_not_know_is_no_matter_for_the_cpu(
    made: Path, tmp_path: Path
):
    path = tmp_path / "x.tflite"
    model = Model.load(made / "extractor.tflite")
    # A convolution in groups, as far as its version tells.
    for code in model.unpacked.operatorCodes:
        code.version = 6 if code.builtinCode == schema.BuiltinOperator.CONV_2D else 1
    for operator, (name, _) in zip(
        model.subgraph.operators, look.operators(model.unpacked), strict=True
    ):
        if name == "CONV_2D":
            in_groups(model.unpacked, operator)
    path.write_bytes(model.to_bytes())
    output = tmp_path / "extractor.tflite"
    kinds.KINDS["extractor"].make_extractor(path, output, width=None, mean=None, std=None)
    with pytest.raises(UserError, match="CONV_2D in version 6"):
        check_versions(Model.load(output))
