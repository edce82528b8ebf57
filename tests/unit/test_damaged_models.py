"""Files with damage that a runtime would run over, or crash of."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.deploy.bundle import classify
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head, read_class_names
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.tflite.model import Model
from tests import models as look


def no_weights(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    model.buffers[graph.tensors[graph.operators[0].inputs[1]].buffer].data = None


def few_weights(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    buffer = model.buffers[graph.tensors[graph.operators[0].inputs[1]].buffer]
    buffer.data = np.asarray(buffer.data)[:10]


def without_an_operator(model: schema.ModelT) -> None:
    del model.subgraphs[0].operators[3]


def without_operators(model: schema.ModelT) -> None:
    model.subgraphs[0].operators = []


@pytest.mark.parametrize("name", ["classifier", "float"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (no_weights, r"nothing writes tensor \d+, and the file has no values for it"),
        (few_weights, r"tensor \d+ has 10 bytes instead of \d+"),
        (without_an_operator, r"nothing writes tensor \d+"),
        (without_operators, r"nothing writes tensor \d+"),
    ],
)
def test_tensors_without_values(
    made: Path, tmp_path: Path, name: str, damage: Callable, reason: str
):
    content = look.changed((made / f"{name}.tflite").read_bytes(), damage)
    with pytest.raises(UserError, match=f"x is a damaged or incomplete TFLite model .{reason}"):
        Model.parse(content, "x")
    # A runtime may give answers all the same.
    (tmp_path / "y.tflite").write_bytes(content)
    with pytest.raises(UserError, match=rf"y\.tflite is a damaged .* TFLite model .{reason}"):
        Interpreter(tmp_path / "y.tflite", "cpu")


def not_utf8(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].name = b"image \xff"
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.inputs, signature.outputs = b"\xfe", [], []
    model.signatureDefs = [signature]


def test_names_that_are_not_utf8(made: Path, tmp_path: Path):
    content = look.changed((made / "classifier.tflite").read_bytes(), not_utf8)
    (tmp_path / "x.tflite").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.tflite"):
        Interpreter(tmp_path / "x.tflite", "cpu")
    model = Model.load(tmp_path / "x.tflite")
    assert model.inputs[0].name == "image \ufffd"
    model.save(tmp_path / "y.tflite")
    assert Interpreter(tmp_path / "y.tflite", "cpu").output_size == 44


@pytest.mark.parametrize(
    ("field", "reason"), [("inputs", "nothing writes tensor"), ("outputs", "has .*0 outputs")]
)
def test_no_inputs_or_outputs(made: Path, tmp_path: Path, field: str, reason: str):
    content = (made / "classifier.tflite").read_bytes()
    changed = look.changed(content, lambda model: setattr(model.subgraphs[0], field, []))
    (tmp_path / "x.tflite").write_bytes(changed)
    with pytest.raises(UserError, match=reason):
        Interpreter(tmp_path / "x.tflite", "cpu")


def test_a_buffer_far_behind_the_file(models: Path, tmp_path: Path):
    """A runtime that reads it crashes."""
    content = (models / "efficientnet_lite0_int8_offset_buffers.tflite").read_bytes()
    packed = schema.Model.GetRootAs(content, 0)
    offset = next(o for i in range(1, 99) if (o := packed.Buffers(i).Offset()) > 1)
    place = content.find(offset.to_bytes(8, "little"))
    damaged = content[:place] + (2**63).to_bytes(8, "little") + content[place + 8 :]
    (tmp_path / "x.tflite").write_bytes(damaged)
    with pytest.raises(UserError, match="extends beyond the end of the file"):
        Interpreter(tmp_path / "x.tflite", "cpu")


def test_label_files_that_are_damaged_or_too_large(made: Path, tmp_path: Path, caplog):
    path = tmp_path / "x.tflite"
    content = (made / "classifier.tflite").read_bytes()
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("large.txt", bytes(1 << 25) + b"\nb\n")
        archive.writestr("labels.txt", "rose\ntulip\n")
    assert read_class_names(path, 2) == ("rose", "tulip")
    assert "the file large.txt in it is too large for class names (33554435 bytes)" in caplog.text
    assert classify.class_names(path, 2, None) == ["rose", "tulip"]
    whole = path.read_bytes()
    place = whole.rindex(b"labels.txt", 0, whole.rindex(b"labels.txt")) + len(b"labels.txt")
    path.write_bytes(whole[:place] + b"\xff" * 8 + whole[place + 8 :])
    with pytest.raises(UserError, match=r"The class names in .* cannot be read: the archive at"):
        read_class_names(path, 2)
    assert classify.class_names(path, 2, None) == ["class 0", "class 1"]


def of_head(**changes: object) -> dict[str, object]:
    return {
        "weights": np.zeros((4, 2), np.float32),
        "biases": np.zeros(2, np.float32),
        "logit_range": np.array([0.0, 1.0]),
        "classes": np.array(["a", "b"]),
        "training": np.array("{}"),
        "normalized": np.array(False),
    } | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": np.zeros(4, np.float32)},
        {"weights": np.zeros((4, 2))},
        {"weights": np.array([["x", "y"]])},
        {"biases": np.zeros(3, np.float32)},
        {"classes": np.array(["a"])},
        {"logit_range": np.array([1.0])},
        {"logit_range": np.array("x")},
        {"training": np.array("[]")},
        {"training": np.array("no JSON")},
        {"normalized": np.array([True, False])},
    ],
)
def test_arrays_that_are_no_head(tmp_path: Path, changes: dict[str, np.ndarray]):
    np.savez(tmp_path / "head.npz", **of_head())
    assert Head.load(tmp_path / "head.npz").classes == ("a", "b")
    np.savez(tmp_path / "head.npz", **of_head(**changes))
    with pytest.raises(UserError, match=r"head\.npz is damaged"):
        Head.load(tmp_path / "head.npz")


def test_an_array_that_is_no_archive(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "x.npy").rename(tmp_path / "head.npz")
    with pytest.raises(UserError, match=r"head\.npz is damaged"):
        Head.load(tmp_path / "head.npz")
