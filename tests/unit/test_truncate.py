"""Cutting a .tflite: what is left computes what it computed in the whole model."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head
from edgetpu_retrain.tflite.append_head import append_head
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import truncate
from tests import models as look
from tests.pictures import resized

POOL = "MobilenetV1/Logits/AvgPool_1a/AvgPool"
# Name of a classifier, its embedding, the embedding's width, the picture's size.
MADE = [("classifier", POOL, 256, 96), ("int8", POOL, 256, 96)]
PUBLISHED = [
    ("mobilenet_v1_0.25_128_quant", POOL, 256, 128),
    ("mobilenet_v2_1.0_224_quant", "MobilenetV2/Logits/AvgPool", 1280, 224),
    ("mobilenet_v2_1.0_224_inat_bird_quant", "AvgPool/AvgPool", 1280, 224),
    ("tf2_mobilenet_v2_1.0_224_ptq", "MobileNetV2/top/Reshape/Reshape", 1280, 224),
]


def cut(content: bytes, tensor: str | None = None) -> bytes:
    return truncate(Model.parse(content, "x.tflite"), tensor).to_bytes()


@pytest.fixture(scope="module")
def classifier(made: Path) -> bytes:
    return (made / "classifier.tflite").read_bytes()


def check_output(content: bytes, tensor: str, width: int, pictures: list[np.ndarray]) -> None:
    """The cut model gives what the whole one holds in the tensor, with either kernels."""
    for kernels in look.KERNELS:
        extractor = look.runtime(cut(content), kernels)
        whole = look.runtime(content, kernels, experimental_preserve_all_tensors=True)
        (index,) = (
            d["index"]
            for d in whole.get_tensor_details()
            if d["name"].split(";")[0] == tensor and d["shape"].tolist() == [1, 1, 1, width]
        )
        for picture in pictures:
            look.invoke(whole, picture)
            assert np.array_equal(look.invoke(extractor, picture), whole.get_tensor(index))


@pytest.mark.parametrize(("name", "tensor", "width", "size"), MADE)
def test_the_output_is_the_tensor_of_the_whole_model(
    made: Path, sample_photos: Path, name, tensor, width, size
):
    pictures = [resized(path, size) for path in sorted(sample_photos.glob("*/*.jpg"))[::30]]
    check_output((made / f"{name}.tflite").read_bytes(), tensor, width, pictures)


def test_the_output_is_the_tensor_of_the_published_model(models: Path, photos: Path):
    for name, tensor, width, size in PUBLISHED:
        pictures = [resized(path, size) for path in sorted(photos.glob("*/*.jpg"))[::100]]
        check_output((models / f"{name}.tflite").read_bytes(), tensor, width, pictures)


def original_layer(model: schema.ModelT) -> Head:
    """The last layer of a classifier, with its weights as float32."""
    graph = model.subgraphs[0]
    at = max(
        i
        for i, (name, _) in enumerate(look.operators(model))
        if name in ("CONV_2D", "FULLY_CONNECTED")
    )
    floats = []
    for index in graph.operators[at].inputs[1:]:
        tensor = graph.tensors[index]
        dtype = {schema.TensorType.UINT8: np.uint8, schema.TensorType.INT8: np.int8}.get(
            tensor.type, np.int32
        )
        values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), dtype)
        values = values.reshape(tensor.shape[0], -1).astype(np.float64)
        scale, zero = (
            np.reshape(q, (-1, 1))
            for q in (tensor.quantization.scale, tensor.quantization.zeroPoint)
        )
        floats.append((values - zero) * scale)
    weights, biases = floats
    logits = graph.tensors[graph.operators[at].outputs[0]].quantization
    # Both dtypes have 256 values; the one that stands for 0 says which.
    dtype = graph.tensors[graph.operators[at].outputs[0]].type
    limits = (-128, 127) if dtype == schema.TensorType.INT8 else (0, 255)
    low, high = (float(logits.scale[0] * (n - logits.zeroPoint[0])) for n in limits)
    return Head(weights.T.astype(np.float32), biases[:, 0].astype(np.float32), (low, high))


def share_that_agrees(content: bytes, pictures: list[np.ndarray]) -> float:
    """How often a model agrees with itself after its layer was cut off and put back."""
    head = original_layer(look.unpack(content))
    whole = look.runtime(content)
    extractor = truncate(Model.parse(content, "x.tflite"))
    again = look.runtime(append_head(extractor, head).to_bytes())
    return np.mean(
        [
            look.invoke(whole, picture).argmax() == look.invoke(again, picture).argmax()
            for picture in pictures
        ]
    )


@pytest.mark.parametrize("name", ["classifier", "int8"])
def test_the_original_layer_can_be_put_back(made: Path, sample_photos: Path, name):
    pictures = [resized(path, 96) for path in sorted(sample_photos.glob("*/*.jpg"))]
    # One scale for all classes instead of one per class costs a little.
    least = {"classifier": 0.99, "int8": 0.95}[name]
    assert share_that_agrees((made / f"{name}.tflite").read_bytes(), pictures) >= least


def test_the_original_layer_of_a_published_model_can_be_put_back(models: Path, photos: Path):
    for name, _, _, size in PUBLISHED:
        pictures = [resized(path, size) for path in sorted(photos.glob("*/*.jpg"))[::8]]
        assert share_that_agrees((models / f"{name}.tflite").read_bytes(), pictures) >= 0.99


def check_rest(content: bytes) -> schema.ModelT:
    """Nothing unused is left in a cut model, and the rest is as it was; returns the model."""
    before, after = look.unpack(content), look.unpack(cut(content))
    old, new = before.subgraphs[0], after.subgraphs[0]
    count = len(new.operators)
    assert len(old.operators) - count in (2, 3, 4)
    assert look.operators(after) == look.operators(before)[:count]
    for one, other in zip(old.operators, new.operators, strict=False):
        names = [
            [graph.tensors[i].name for i in [*op.inputs, *op.outputs]]
            for graph, op in ((old, one), (new, other))
        ]
        assert names[0] == names[1]
        for i, j in zip(one.inputs, other.inputs, strict=True):
            a, b = (
                model.buffers[model.subgraphs[0].tensors[k].buffer].data
                for model, k in ((before, i), (after, j))
            )
            assert (a is None) == (b is None)
            assert a is None or bytes(a) == bytes(b)
    used = {int(i) for op in new.operators for i in [*op.inputs, *op.outputs]}
    assert used == set(range(len(new.tensors)))
    held = {t.buffer for t in new.tensors} | {m.buffer for m in after.metadata} | {0}
    assert held == set(range(len(after.buffers)))
    assert {op.opcodeIndex for op in new.operators} == set(range(len(after.operatorCodes)))
    assert len(cut(content)) < len(content)
    return after


@pytest.mark.parametrize("name", ["classifier", "int8"])
def test_nothing_unused_is_left_and_the_rest_is_as_it_was(made: Path, name):
    check_rest((made / f"{name}.tflite").read_bytes())


def test_of_a_published_model_nothing_unused_is_left(models: Path):
    for name, *_ in PUBLISHED:
        after = check_rest((models / f"{name}.tflite").read_bytes())
        # That which describes the outputs went.
        assert [m.name for m in after.metadata] == [b"min_runtime_version"]


def test_metadata_on_the_outputs_goes(classifier: bytes):
    def describe(model: schema.ModelT) -> None:
        buffer = schema.BufferT()
        buffer.data = list(b"what the outputs are")
        model.buffers.append(buffer)
        entry = schema.MetadataT()
        entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers) - 1
        model.metadata = [*(model.metadata or []), entry]

    content = look.changed(classifier, describe)
    assert b"what the outputs are" in content
    assert b"what the outputs are" not in cut(content)


def test_the_model_that_is_cut_stays_as_it_is(classifier: bytes):
    model = Model.parse(classifier, "x.tflite")
    before = model.to_bytes()
    truncate(model)
    assert model.to_bytes() == before


def test_a_named_tensor(classifier: bytes):
    assert cut(classifier, POOL) == cut(classifier)
    with pytest.raises(UserError, match=f"Similar names are: {POOL}"):
        cut(classifier, POOL[:-1] + "x")
    with pytest.raises(UserError, match=r"of shape \[1, 3, 3, 256\]; an embedding is a vec"):
        cut(classifier, "MobilenetV1/MobilenetV1/Conv2d_13_pointwise/Relu6")


def rename(classifier: bytes, pool: bytes, conv: bytes) -> bytes:
    """A classifier whose embedding and logits have these names."""

    def change(model: schema.ModelT) -> None:
        for operator, name in zip(model.subgraphs[0].operators[-4:-2], (pool, conv), strict=True):
            model.subgraphs[0].tensors[operator.outputs[0]].name = name

    return look.changed(classifier, change)


def test_a_tensor_s_whole_name_goes_before_the_first_of_joined_ones(classifier: bytes):
    whole = Model.parse(cut(rename(classifier, b"Pool", b"Pool;Conv"), "Pool"), "x")
    assert whole.outputs[0].shape == (1, 1, 1, 256)
    with pytest.raises(UserError, match=r"(.|\n)*  Pool;Mean\n  Pool;Conv"):
        cut(rename(classifier, b"Pool;Mean", b"Pool;Conv"), "Pool")


def test_two_tensors_of_one_name_are_refused(classifier: bytes):
    with pytest.raises(UserError, match="Pool"):
        cut(rename(classifier, b"Pool", b"Pool"), "Pool")


def test_a_fully_connected_head_and_int8_ends(made: Path):
    """A classifier that this project wrote, without its last QUANTIZE and its first."""
    ptq = truncate(Model.load(made / "int8.tflite"))
    random = np.random.default_rng(0)
    head = Head(random.normal(0, 0.1, (256, 7)).astype(np.float32), np.zeros(7, np.float32), None)

    def strip(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        graph.operators = graph.operators[1:-1]
        graph.inputs = [graph.operators[0].inputs[0]]
        graph.outputs = [graph.operators[-1].outputs[0]]
        model.signatureDefs = None

    content = look.changed(append_head(ptq, head).to_bytes(), strip)
    model = Model.parse(content, "x.tflite")
    assert [model.inputs[0].dtype, model.outputs[0].dtype] == ["int8", "int8"]
    (embedding,) = truncate(model).outputs
    assert (embedding.shape, embedding.dtype) == ((1, 1, 1, 256), "int8")


def as_detector(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.outputs = [*graph.outputs, graph.operators[-2].outputs[0]]


def as_float(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    for index in (*graph.inputs, *(i for operator in graph.operators for i in operator.outputs)):
        graph.tensors[index].type, graph.tensors[index].quantization = (
            schema.TensorType.FLOAT32,
            None,
        )


def without_last_layer(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.operators = graph.operators[:-3]
    graph.outputs = graph.operators[-1].outputs


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (as_detector, "2 outputs, so it is not a classifier"),
        (as_float, "of type float32: a model for the Edge TPU must be quantized"),
        (lambda m: m.subgraphs.append(m.subgraphs[0]), "2 subgraphs"),
        (without_last_layer, "does not end in a fully connected layer"),
    ],
)
def test_what_has_no_such_place_is_refused(classifier: bytes, change, reason):
    with pytest.raises(UserError, match=rf"^x\.tflite (.|\n)*{reason}") as error:
        cut(look.changed(classifier, change))
    assert "Its last operators are" in str(error.value) or len(reason) < 12


def test_a_refusal_lists_the_last_operators(made: Path):
    with pytest.raises(UserError, match=rf"AVERAGE_POOL_2D -> '{POOL}' uint8"):
        cut((made / "extractor.tflite").read_bytes())


def test_a_compiled_model_is_refused(made: Path):
    with pytest.raises(UserError, match=r"already compiled(.|\n)*  edgetpu-custom-op -> "):
        cut((made / "extractor_edgetpu.tflite").read_bytes())


def test_a_published_compiled_model_is_refused(models: Path):
    path = models / "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite"
    with pytest.raises(UserError, match=r"already compiled(.|\n)*  edgetpu-custom-op -> "):
        cut(path.read_bytes())


def feed_itself(model: schema.ModelT) -> None:
    """The RESHAPE before the SOFTMAX reads what it writes."""
    reshape = model.subgraphs[0].operators[-2]
    reshape.inputs = [reshape.outputs[0], *reshape.inputs[1:]]


def without_signature_outputs(model: schema.ModelT) -> None:
    signature = schema.SignatureDefT()
    signature.signatureKey = b"serving_default"
    signature.inputs, signature.outputs = [], None
    model.signatureDefs = [signature]


def without_shapes(model: schema.ModelT) -> None:
    for tensor in model.subgraphs[0].tensors:
        tensor.shape = None


def test_an_operator_that_feeds_itself_ends_the_search(classifier: bytes):
    with pytest.raises(UserError, match="does not end in a fully connected layer"):
        cut(look.changed(classifier, feed_itself))


def test_a_signature_without_outputs_is_no_obstacle(classifier: bytes):
    content = look.changed(classifier, without_signature_outputs)
    (embedding,) = Model.parse(cut(content), "x.tflite").outputs
    assert embedding.name == POOL


def test_tensors_without_shapes_are_refused(classifier: bytes):
    content = look.changed(classifier, without_shapes)
    with pytest.raises(UserError, match=r"x\.tflite "):
        cut(content)
    with pytest.raises(UserError, match=r"of shape \[\]; an embedding is a vector"):
        cut(content, POOL)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    parts = [sys.executable, "-m", "edgetpu_retrain.tflite", *map(str, arguments)]
    return subprocess.run(parts, capture_output=True, text=True)


def test_the_command_shows_and_cuts(made: Path, tmp_path: Path):
    path, out = made / "int8.tflite", tmp_path / "cut.tflite"
    shown = command("show", path).stdout
    for line in (
        "input   'input' uint8 [1, 96, 96, 3], scale 0.0078125, zero point 128",
        "SOFTMAX (version 2)",
        "compiled for the Edge TPU: no",
        f"would be cut at: '{POOL}' int8 [1, 1, 1, 256]",
    ):
        assert line in shown
    assert command("truncate", path, out).returncode == 0
    assert out.read_bytes() == cut(path.read_bytes())
    named = tmp_path / "named.tflite"
    assert command("truncate", path, named, "--tensor", POOL).returncode == 0
    assert named.read_bytes() == out.read_bytes()
    shown = command("show", made / "extractor_edgetpu.tflite").stdout
    assert "compiled for the Edge TPU: yes" in shown


def test_the_command_shows_a_published_model(models: Path):
    shown = command("show", models / "tf2_mobilenet_v2_1.0_224_ptq.tflite").stdout
    for line in (
        "input   'input' uint8 [1, 224, 224, 3], scale 0.007843138, zero point 127",
        "would be cut at: 'MobileNetV2/top/Reshape/Reshape' int8 [1, 1, 1, 1280] (fused)",
    ):
        assert line in shown


def test_what_cannot_be_cut_is_not_said_to_be(classifier: bytes, tmp_path: Path):
    (tmp_path / "x.tflite").write_bytes(look.changed(classifier, as_float))
    shown = command("show", tmp_path / "x.tflite").stdout
    assert f"cannot be cut: {tmp_path}/x.tflite has the tensor" in shown


@pytest.mark.parametrize("content", [b"", b"text", b"\x1c\0\0\0TFL3" + b"\xff" * 50])
def test_the_command_refuses_what_is_not_a_model(tmp_path: Path, content):
    (tmp_path / "x.tflite").write_bytes(content)
    for arguments in (("show", tmp_path / "x.tflite"), ("truncate", tmp_path / "x.tflite", "out")):
        done = command(*arguments)
        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: {tmp_path / 'x.tflite'} is ")
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_truncated_file_is_refused(classifier: bytes, tmp_path: Path):
    (tmp_path / "x.tflite").write_bytes(classifier[:100_000])
    done = command("truncate", tmp_path / "x.tflite", tmp_path / "out.tflite")
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_cutting_needs_neither_tensorflow_nor_much_memory(made: Path, tmp_path: Path):
    # The peak that getrusage tells of is the parent's too.
    code = (
        "import pathlib, sys; from edgetpu_retrain.tflite import __main__;"
        f"__main__.main(['truncate', {str(made / 'int8.tflite')!r}, {str(tmp_path / 'x')!r}]);"
        "assert not any(name.startswith('tensorflow') for name in sys.modules);"
        "print(pathlib.Path('/proc/self/status').read_text())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (peak,) = (line.split() for line in done.stdout.splitlines() if line.startswith("VmHWM:"))
    assert int(peak[1]) < 250_000, peak
