"""The classifiers that are written, read back by the schema and run by the interpreter."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from sklearn.linear_model import LogisticRegression

from edgetpu_retrain import SoftmaxRegression
from edgetpu_retrain.embeddings.embed import embed
from edgetpu_retrain.embeddings.shards import Embeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head
from edgetpu_retrain.io import files
from edgetpu_retrain.tflite.append_head import append_head
from edgetpu_retrain.tflite.model import Model
from tests import models as look
from tests.pictures import resized


def cut(content: bytes) -> bytes:
    """What stands in front of the last layer, which three operators follow."""

    def change(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        graph.operators = graph.operators[:-4]
        graph.outputs = list(graph.operators[-1].outputs)
        model.signatureDefs = None

    return look.changed(content, change)


def append(extractor: Path | bytes, head: Head) -> bytes:
    content = extractor if isinstance(extractor, bytes) else extractor.read_bytes()
    return append_head(Model.parse(content, "x.tflite"), head).to_bytes()


@pytest.fixture(scope="module")
def extractors(made: Path, tmp_path_factory) -> dict[str, Path]:
    """A uint8 extractor with 4 dimensions, its compiled twin, and an int8 one."""
    int8 = tmp_path_factory.mktemp("extractors") / "int8.tflite"
    int8.write_bytes(cut((made / "int8.tflite").read_bytes()))
    return {
        "uint8": made / "extractor.tflite",
        "compiled": made / "extractor_edgetpu.tflite",
        "int8": int8,
    }


@pytest.fixture(scope="module")
def published(models: Path, tmp_path_factory) -> dict[str, Path]:
    """The same, as Google published them."""
    int8 = tmp_path_factory.mktemp("published") / "int8.tflite"
    int8.write_bytes(cut((models / "tf2_mobilenet_v2_1.0_224_ptq.tflite").read_bytes()))
    name = "mobilenet_v1_1.0_224_quant_embedding_extractor"
    return {
        "uint8": models / f"{name}.tflite",
        "compiled": models / f"{name}_edgetpu.tflite",
        "int8": int8,
    }


@pytest.fixture(scope="module")
def paths(sample_photos: Path) -> list[Path]:
    """The sample's photos, in the order of their identities."""
    return sorted(sample_photos.glob("*/*.jpg"), key=files.sha256)


def learn(extractor: Path, paths: list[Path]) -> tuple[Embeddings, np.ndarray, np.ndarray]:
    """Embeddings, float32 and quantized, with the classes of the photos."""
    shard = {files.sha256(path): str(path) for path in paths}
    embedded = embed(shard, extractor, "cpu", resize="nearest")
    x = embedded.quantization.dequantize(embedded.embeddings)
    y = np.unique([path.parent.name for path in paths], return_inverse=True)[1]
    return embedded, x, y


def check_against_float_head(extractor: Path, paths: list[Path], size: int) -> None:
    """The written file says what the float head says of the same photos."""
    _, x, y = learn(extractor, paths)
    model = SoftmaxRegression(x.shape[1], 5, 0.05, seed=0)
    model.train_with_sgd({"data_train": x, "labels_train": y}, 500, 0.01)
    runtime = look.runtime(model.serialize_model(extractor))
    scores = np.concatenate([look.invoke(runtime, resized(path, size)) for path in paths])
    assert scores.dtype == np.uint8
    assert scores.shape == (len(paths), 5)
    assert np.mean(scores.argmax(axis=1) == model.predict(x)) >= 0.99
    logits = x @ model.weights + model.biases
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert np.abs(scores / 256 - probabilities).mean() < 0.01


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_the_file_says_what_the_float_head_says(extractors, paths, kind):
    check_against_float_head(extractors[kind], paths, 96)


def test_the_file_of_a_published_extractor_says_what_the_float_head_says(published, photos: Path):
    found = [path for folder in photos.iterdir() if folder.is_dir() for path in folder.iterdir()]
    found = sorted(found, key=files.sha256)[::10]
    for kind in ("uint8", "int8"):
        check_against_float_head(published[kind], found, 224)


@pytest.fixture(scope="module", params=["uint8", "int8"])
def trained(request, extractors, paths) -> tuple[Path, Embeddings, SoftmaxRegression]:
    embedded, x, y = learn(extractors[request.param], paths)
    model = SoftmaxRegression(x.shape[1], 5, 0.05, seed=0)
    model.train_with_sgd({"data_train": x, "labels_train": y}, 100, 0.01)
    return extractors[request.param], embedded, model


def test_the_layer_is_as_the_format_asks(trained):
    path, embedded, head = trained
    model = look.unpack(head.serialize_model(path))
    graph = model.subgraphs[0]
    is_uint8 = embedded.embeddings.dtype == np.uint8
    before = look.operators(look.unpack(path.read_bytes()))
    versions = (1, 1) if is_uint8 else (4, 2)
    assert look.operators(model) == [
        *before,
        ("FULLY_CONNECTED", versions[0]),
        ("RESHAPE", 1),
        ("SOFTMAX", versions[1]),
        *([] if is_uint8 else [("QUANTIZE", 1)]),
    ]
    dense = graph.operators[len(before)]
    weights, biases, logits = (
        look.tensor(model, i).quantization
        for i in (dense.inputs[1], dense.inputs[2], dense.outputs[0])
    )
    # The product of scales, in the float32 that the file holds.
    assert biases.scale[0] == pytest.approx(embedded.scale * weights.scale[0], rel=1e-6)
    assert biases.zeroPoint[0] == 0
    width = embedded.embeddings.shape[1]
    assert list(look.tensor(model, dense.inputs[1]).shape) == [5, width]
    dtype = np.uint8 if is_uint8 else np.int8
    stored = look.values(model, dense.inputs[1], dtype)
    found = weights.scale[0] * (stored.astype(float) - weights.zeroPoint[0])
    assert np.abs(found - head.weights.T).max() <= weights.scale[0] * 0.51
    if not is_uint8:
        assert weights.zeroPoint[0] == 0
    stored = look.values(model, dense.inputs[2], np.int32) * biases.scale[0]
    assert np.allclose(stored, head.biases, atol=biases.scale[0])
    lowest, highest = head.logit_range
    limits = np.iinfo(dtype)
    reach = [logits.scale[0] * (n - int(logits.zeroPoint[0])) for n in (limits.min, limits.max)]
    assert np.allclose(reach, [min(lowest, 0), max(highest, 0)], atol=logits.scale[0])
    softmax = graph.operators[len(before) + 2]
    assert softmax.builtinOptions.beta == 1.0
    (output,) = graph.outputs
    assert list(look.tensor(model, output).shape) == [1, 5]
    assert look.tensor(model, output).type == schema.TensorType.UINT8
    assert look.tensor(model, output).quantization.scale[0] == 1 / 256
    assert look.tensor(model, output).quantization.zeroPoint[0] == 0


def data(model: schema.ModelT, tensor: schema.TensorT) -> bytes:
    found = model.buffers[tensor.buffer].data
    return b"" if found is None else bytes(found)


def check_front(before: bytes, after: bytes) -> None:
    """The operators, tensors and buffers of a model stand first in another, unharmed."""
    old, new = look.unpack(before), look.unpack(after)
    count = len(old.subgraphs[0].operators)
    assert look.operators(new)[:count] == look.operators(old)
    assert list(new.subgraphs[0].inputs) == list(old.subgraphs[0].inputs)
    for a, b in zip(old.subgraphs[0].tensors, new.subgraphs[0].tensors, strict=False):
        assert (a.name, a.type, list(a.shape)) == (b.name, b.type, list(b.shape))
        # Which of the empty buffers a tensor names makes no difference.
        assert data(old, a) == data(new, b)
    for a, b in zip(old.subgraphs[0].operators, new.subgraphs[0].operators, strict=False):
        assert list(a.inputs) == list(b.inputs)


@pytest.mark.parametrize("kind", ["uint8", "compiled", "int8"])
def test_what_was_in_front_stays(extractors, kind):
    content = extractors[kind].read_bytes()
    check_front(content, append(content, SoftmaxRegression(256, 3, seed=0).head))


def test_what_was_in_front_of_a_published_one_stays(published):
    for kind, width in (("uint8", 1024), ("compiled", 1024), ("int8", 1280)):
        content = published[kind].read_bytes()
        check_front(content, append(content, SoftmaxRegression(width, 3, seed=0).head))


def check_compiled_operator(content: bytes, width: int) -> None:
    after = look.unpack(append(content, SoftmaxRegression(width, 5, seed=0).head))
    package = bytes(look.unpack(content).subgraphs[0].operators[0].customOptions)
    assert b"DWN1" in package
    assert bytes(after.subgraphs[0].operators[0].customOptions) == package
    code = after.operatorCodes[after.subgraphs[0].operators[0].opcodeIndex]
    assert code.customCode == b"edgetpu-custom-op"


def test_the_compiled_operator_stays_byte_for_byte(extractors):
    check_compiled_operator(extractors["compiled"].read_bytes(), 256)


def test_the_published_compiled_operator_stays_byte_for_byte(published):
    check_compiled_operator(published["compiled"].read_bytes(), 1024)


def test_both_twins_get_the_same_head(extractors):
    head = SoftmaxRegression(256, 5, seed=0).head
    layers = []
    for kind in ("uint8", "compiled"):
        model = look.unpack(append(extractors[kind], head))
        names = {t.name: i for i, t in enumerate(model.subgraphs[0].tensors)}
        layers.append(
            [
                bytes(look.values(model, names[b"head/weights"], np.uint8)),
                bytes(look.values(model, names[b"head/biases"], np.int32)),
                look.tensor(model, names[b"head/logits"]).quantization.scale[0],
            ]
        )
    assert layers[0] == layers[1]


def test_an_untrained_layer_can_be_written(extractors, paths, caplog):
    """PyCoral's own test does so; there are no logits seen yet."""
    model = SoftmaxRegression(256, 5, seed=0)
    runtime = look.runtime(model.serialize_model(extractors["uint8"]))
    assert "scores may be coarse" in caplog.text
    assert look.invoke(runtime, resized(paths[0], 96)).sum() == pytest.approx(256, abs=5)


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("size", [0.0, 1e-40, 1e-25, 1e-5])
def test_a_layer_that_learned_nothing_can_be_run(extractors, paths, kind, size):
    """As where all photos are the same; the classes have the same score, up to its last unit."""
    weights = np.random.default_rng(0).normal(0, size, (256, 4)).astype(np.float32)
    head = Head(weights, np.zeros(4, np.float32), (-100 * size, 100 * size))
    model = look.runtime(append(extractors[kind], head))
    scores = look.invoke(model, resized(paths[0], 96))
    assert np.abs(scores.astype(int) - 64).max() <= 1


def test_any_linear_classifier_can_be_written(extractors, paths):
    _, x, y = learn(extractors["uint8"], paths)
    fitted = LogisticRegression(C=0.01, max_iter=2000).fit(x, y)
    logits = fitted.decision_function(x)
    head = Head(
        fitted.coef_.T.astype(np.float32),
        fitted.intercept_.astype(np.float32),
        (logits.min(), logits.max()),
    )
    runtime = look.runtime(append(extractors["uint8"], head))
    found = [look.invoke(runtime, resized(path, 96)).argmax() for path in paths]
    assert np.mean(found == fitted.predict(x)) >= 0.99


def test_the_extractor_stays_as_it_is(extractors):
    extractor = Model.load(extractors["uint8"])
    before = extractor.to_bytes()
    append_head(extractor, SoftmaxRegression(256, 5, seed=0).head)
    assert extractor.to_bytes() == before


def with_output(**changes):
    def change(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        for name, value in changes.items():
            setattr(graph.tensors[graph.outputs[0]], name, value)

    return change


def with_two_outputs(model: schema.ModelT) -> None:
    model.subgraphs[0].outputs = [*model.subgraphs[0].outputs, 0]


def with_two_subgraphs(model: schema.ModelT) -> None:
    model.subgraphs.append(model.subgraphs[0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_two_outputs, "2 outputs"),
        (with_two_subgraphs, "2 subgraphs"),
        (with_output(quantization=None), "no scale and zero point"),
        (with_output(type=schema.TensorType.FLOAT32), "float32; an embedding must be quantized"),
        (with_output(type=schema.TensorType.INT16), "must be quantized to uint8 or int8"),
        (
            with_output(shape=[1, 2, 2, 64]),
            r"shape \[1, 2, 2, 64\]; the head was trained on .* 256",
        ),
    ],
)
def test_what_cannot_take_a_head_is_refused(extractors, change, reason):
    content = look.changed(extractors["uint8"].read_bytes(), change)
    with pytest.raises(UserError, match=rf"^x\.tflite (.|\n)*{reason}"):
        append(content, SoftmaxRegression(256, 5).head)


def test_an_embedding_of_two_dimensions_needs_no_reshape(extractors):
    content = look.changed(extractors["uint8"].read_bytes(), with_output(shape=[1, 256]))
    appended = look.unpack(append(content, SoftmaxRegression(256, 5).head))
    assert [name for name, _ in look.operators(appended)][-2:] == ["FULLY_CONNECTED", "SOFTMAX"]


def test_a_head_of_another_width_is_refused(extractors):
    with pytest.raises(UserError, match="768 values"):
        SoftmaxRegression(768, 5).serialize_model(extractors["uint8"])


@pytest.mark.parametrize("content", [b"", b"not a model at all"])
def test_what_is_not_a_model_is_refused(tmp_path: Path, content):
    (tmp_path / "x.tflite").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.tflite is not a TFLite model"):
        SoftmaxRegression(4, 2).serialize_model(tmp_path / "x.tflite")
