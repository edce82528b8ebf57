"""The files that are written, read back by the schema and run by the interpreter."""

import struct
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter as Runtime
from PIL import Image
from sklearn.linear_model import LogisticRegression

from edgetpu_retrain import SoftmaxRegression, UserError, dataset, tflite_model
from edgetpu_retrain.embeddings import Embeddings, embed
from edgetpu_retrain.files import sha256
from edgetpu_retrain.head import Head

NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if name[0] != "_"}


def unpack(content: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromPackedBuf(content, 0)


def operators(model: schema.ModelT) -> list[tuple[str, int]]:
    codes = [model.operatorCodes[op.opcodeIndex] for op in model.subgraphs[0].operators]
    return [(NAMES[max(c.builtinCode, c.deprecatedBuiltinCode)], c.version) for c in codes]


def tensor(model: schema.ModelT, index: int) -> schema.TensorT:
    return model.subgraphs[0].tensors[index]


def values(model: schema.ModelT, index: int, dtype: type) -> np.ndarray:
    found = tensor(model, index)
    return np.frombuffer(bytes(model.buffers[found.buffer].data), dtype).reshape(found.shape)


def cut(model: schema.ModelT, dropped: int) -> bytes:
    """Drops the last operators; what the one before them writes becomes the output."""
    graph = model.subgraphs[0]
    graph.operators = graph.operators[:-dropped]
    graph.outputs = list(graph.operators[-1].outputs)
    return tflite_model.write(model)


@pytest.fixture(scope="module")
def extractors(models: Path, tmp_path_factory) -> dict[str, Path]:
    """A uint8 extractor with 4 dimensions, its compiled twin, and an int8 one."""
    folder = tmp_path_factory.mktemp("extractors")
    name = "mobilenet_v1_1.0_224_quant_embedding_extractor"
    ptq = unpack((models / "tf2_mobilenet_v2_1.0_224_ptq.tflite").read_bytes())
    (folder / "int8.tflite").write_bytes(cut(ptq, 4))
    return {
        "uint8": models / f"{name}.tflite",
        "compiled": models / f"{name}_edgetpu.tflite",
        "int8": folder / "int8.tflite",
    }


@pytest.fixture(scope="module")
def shard(photos: Path) -> list[dataset.Photo]:
    paths = [
        path
        for folder in sorted(photos.iterdir())
        if folder.is_dir()
        for path in sorted(folder.iterdir())[:40]
    ]
    return [dataset.Photo(str(p), p.parent.name, "train", sha256(p)) for p in paths]


@pytest.fixture(scope="module", params=["uint8", "int8"])
def trained(request, extractors, shard) -> tuple[Path, Embeddings, SoftmaxRegression, np.ndarray]:
    path = extractors[request.param]
    embedded = embed(shard, path, "cpu")
    x, labels = embedded.split("train")
    y = np.unique(labels, return_inverse=True)[1]
    model = SoftmaxRegression(x.shape[1], 5, 0.05, seed=0)
    model.train_with_sgd({"data_train": x, "labels_train": y}, 500, 0.01)
    return path, embedded, model, y


def run(content: bytes, path: str) -> np.ndarray:
    runtime = Runtime(model_content=content)
    runtime.allocate_tensors()
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.NEAREST))
    runtime.set_tensor(runtime.get_input_details()[0]["index"], pixels[np.newaxis])
    runtime.invoke()
    return runtime.get_tensor(runtime.get_output_details()[0]["index"])


def test_the_file_says_what_the_float_head_says(trained, shard):
    path, embedded, model, _ = trained
    content = model.serialize_model(path)
    scores = np.concatenate([run(content, photo.path) for photo in shard])
    assert scores.dtype == np.uint8
    assert scores.shape == (200, 5)
    x, _ = embedded.split("train")
    assert np.mean(scores.argmax(axis=1) == model.predict(x)) >= 0.99
    logits = x @ model.weights + model.biases
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert np.abs(scores / 256 - probabilities).mean() < 0.01


def test_the_layer_is_as_the_format_asks(trained):
    path, embedded, head, _ = trained
    model = unpack(head.serialize_model(path))
    graph = model.subgraphs[0]
    is_uint8 = embedded.embeddings.dtype == np.uint8
    before = operators(unpack(path.read_bytes()))
    versions = (1, 1) if is_uint8 else (4, 2)
    assert operators(model) == [
        *before,
        ("FULLY_CONNECTED", versions[0]),
        ("RESHAPE", 1),
        ("SOFTMAX", versions[1]),
        *([] if is_uint8 else [("QUANTIZE", 1)]),
    ]
    dense = graph.operators[len(before)]
    weights, biases, logits = (
        tensor(model, i).quantization for i in (dense.inputs[1], dense.inputs[2], dense.outputs[0])
    )
    # The product of scales, in the float32 that the file holds.
    assert biases.scale[0] == pytest.approx(embedded.scale * weights.scale[0], rel=1e-6)
    assert biases.zeroPoint[0] == 0
    assert tensor(model, dense.inputs[1]).shape.tolist() == [5, embedded.embeddings.shape[1]]
    dtype = np.uint8 if is_uint8 else np.int8
    stored = values(model, dense.inputs[1], dtype)
    found = weights.scale[0] * (stored.astype(float) - weights.zeroPoint[0])
    assert np.abs(found - head.weights.T).max() <= weights.scale[0] * 0.51
    if not is_uint8:
        assert weights.zeroPoint[0] == 0
    stored = values(model, dense.inputs[2], np.int32) * biases.scale[0]
    assert np.allclose(stored, head.biases, atol=biases.scale[0])
    lowest, highest = head.logit_range
    limits = np.iinfo(dtype)
    reach = [logits.scale[0] * (n - int(logits.zeroPoint[0])) for n in (limits.min, limits.max)]
    assert np.allclose(reach, [min(lowest, 0), max(highest, 0)], atol=logits.scale[0])
    softmax = graph.operators[len(before) + 2]
    assert softmax.builtinOptions.beta == 1.0
    (output,) = graph.outputs
    assert tensor(model, output).shape.tolist() == [1, 5]
    assert tensor(model, output).type == schema.TensorType.UINT8
    assert tensor(model, output).quantization.scale[0] == 1 / 256
    assert tensor(model, output).quantization.zeroPoint[0] == 0


@pytest.mark.parametrize("kind", ["uint8", "compiled", "int8"])
def test_what_was_in_front_stays(extractors, kind):
    before = unpack(extractors[kind].read_bytes())
    width = int(tensor(before, before.subgraphs[0].outputs[0]).shape[-1])
    head = SoftmaxRegression(width, 3, seed=0).head
    after = unpack(tflite_model.append_head(extractors[kind].read_bytes(), head))
    count = len(before.subgraphs[0].operators)
    assert operators(after)[:count] == operators(before)
    assert after.subgraphs[0].inputs.tolist() == before.subgraphs[0].inputs.tolist()
    for old, new in zip(before.buffers, after.buffers, strict=False):
        assert bytes(old.data if old.data is not None else b"") == bytes(
            new.data if new.data is not None else b""
        )
    for old, new in zip(before.subgraphs[0].tensors, after.subgraphs[0].tensors, strict=False):
        assert (old.name, old.type, old.buffer) == (new.name, new.type, new.buffer)
        assert old.shape.tolist() == new.shape.tolist()
    for old, new in zip(before.subgraphs[0].operators, after.subgraphs[0].operators, strict=False):
        assert old.inputs.tolist() == new.inputs.tolist()


def test_the_compiled_operator_stays_byte_for_byte(extractors):
    content = extractors["compiled"].read_bytes()
    head = SoftmaxRegression(1024, 5, seed=0).head
    after = unpack(tflite_model.append_head(content, head))
    package = bytes(unpack(content).subgraphs[0].operators[0].customOptions)
    assert b"DWN1" in package
    assert bytes(after.subgraphs[0].operators[0].customOptions) == package
    code = after.operatorCodes[after.subgraphs[0].operators[0].opcodeIndex]
    assert code.customCode == b"edgetpu-custom-op"


def test_both_twins_get_the_same_head(extractors):
    head = SoftmaxRegression(1024, 5, seed=0).head
    layers = []
    for kind in ("uint8", "compiled"):
        model = unpack(tflite_model.append_head(extractors[kind].read_bytes(), head))
        names = {t.name: i for i, t in enumerate(model.subgraphs[0].tensors)}
        layers.append(
            [bytes(values(model, names[n], np.uint8)) for n in (b"head/weights",)]
            + [bytes(values(model, names[b"head/biases"], np.int32))]
            + [tensor(model, names[b"head/logits"]).quantization.scale[0]]
        )
    assert layers[0] == layers[1]


def test_an_untrained_layer_can_be_written(extractors, shard, caplog):
    """PyCoral's own test does so; there are no logits seen yet."""
    model = SoftmaxRegression(1024, 5, seed=0)
    scores = run(model.serialize_model(extractors["uint8"]), shard[0].path)
    assert "scores may be coarse" in caplog.text
    assert scores.sum() == pytest.approx(256, abs=5)


def test_any_linear_classifier_can_be_written(extractors, shard):
    embedded = embed(shard, extractors["uint8"], "cpu")
    x, labels = embedded.split("train")
    fitted = LogisticRegression(C=0.01, max_iter=2000).fit(x, labels)
    logits = fitted.decision_function(x)
    head = Head(
        fitted.coef_.T.astype(np.float32),
        fitted.intercept_.astype(np.float32),
        (logits.min(), logits.max()),
    )
    content = tflite_model.append_head(extractors["uint8"].read_bytes(), head)
    found = [fitted.classes_[run(content, photo.path).argmax()] for photo in shard]
    assert np.mean(found == fitted.predict(x)) >= 0.99


def change(content: bytes, **changes) -> bytes:
    model = unpack(content)
    graph = model.subgraphs[0]
    output = graph.tensors[graph.outputs[0]]
    if "second_output" in changes:
        graph.outputs = [*graph.outputs, 0]
    if "second_subgraph" in changes:
        model.subgraphs.append(model.subgraphs[0])
    if "no_quantization" in changes:
        output.quantization = None
    if "dtype" in changes:
        output.type = changes["dtype"]
    if "shape" in changes:
        output.shape = changes["shape"]
    return tflite_model.write(model)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"second_output": True}, "2 outputs"),
        ({"second_subgraph": True}, "2 subgraphs"),
        ({"no_quantization": True}, "no scale and zero point"),
        ({"dtype": schema.TensorType.FLOAT32}, "float32; an embedding must be quantized"),
        ({"dtype": schema.TensorType.INT16}, "must be quantized to uint8 or int8"),
        ({"shape": [1, 2, 2, 256]}, r"shape \[1, 2, 2, 256\]; the head was trained on .* 1024"),
    ],
)
def test_what_cannot_take_a_head_is_refused(extractors, changes, reason):
    content = change(extractors["uint8"].read_bytes(), **changes)
    with pytest.raises(UserError, match=reason):
        tflite_model.append_head(content, SoftmaxRegression(1024, 5).head)


def test_an_embedding_of_two_dimensions_needs_no_reshape(extractors):
    content = change(extractors["uint8"].read_bytes(), shape=[1, 1024])
    appended = unpack(tflite_model.append_head(content, SoftmaxRegression(1024, 5).head))
    assert [name for name, _ in operators(appended)][-2:] == ["FULLY_CONNECTED", "SOFTMAX"]


def test_a_head_of_another_width_is_refused(extractors):
    with pytest.raises(UserError, match="768 wide"):
        SoftmaxRegression(768, 5).serialize_model(extractors["uint8"])


@pytest.mark.parametrize("content", [b"", b"not a model at all", struct.pack("<I4s", 99, b"TFL3")])
def test_what_is_no_model_is_refused(content):
    with pytest.raises(UserError, match="TFLite model"):
        tflite_model.append_head(content, SoftmaxRegression(4, 2).head)
