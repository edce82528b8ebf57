"""Cutting a .tflite: what is left computes what it computed in the whole model."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter as Runtime
from ai_edge_litert.interpreter import OpResolverType
from PIL import Image

from edgetpu_retrain import UserError, extractor, tflite_model
from edgetpu_retrain.head import Head

CLASSIFIERS = {
    "mobilenet_v1_0.25_128_quant": ("MobilenetV1/Logits/AvgPool_1a/AvgPool", 256),
    "mobilenet_v2_1.0_224_quant": ("MobilenetV2/Logits/AvgPool", 1280),
    "tf2_mobilenet_v2_1.0_224_ptq": ("MobileNetV2/top/Reshape/Reshape", 1280),
}
KERNELS = {
    "xnnpack": OpResolverType.AUTO,
    "reference": OpResolverType.BUILTIN_REF,
}


@pytest.fixture(params=CLASSIFIERS)
def classifier(request, models: Path) -> Path:
    return models / f"{request.param}.tflite"


@pytest.fixture(scope="module")
def some_photos(photos: Path) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted(photos.glob("*/*.jpg"))[::100]]


def runtime(content: bytes, kernels: str = "xnnpack", **options) -> Runtime:
    found = Runtime(
        model_content=content, experimental_op_resolver_type=KERNELS[kernels], **options
    )
    found.allocate_tensors()
    return found


def invoke(model: Runtime, photo: Image.Image) -> np.ndarray:
    image, output = model.get_input_details()[0], model.get_output_details()[0]
    size = tuple(int(n) for n in image["shape"][2:0:-1])
    pixels = np.asarray(photo.resize(size, Image.Resampling.NEAREST))
    model.set_tensor(image["index"], pixels[np.newaxis])
    model.invoke()
    return model.get_tensor(output["index"])


@pytest.mark.parametrize("kernels", KERNELS)
def test_the_output_is_the_tensor_of_the_whole_model(classifier: Path, some_photos, kernels):
    content = classifier.read_bytes()
    tensor, width = CLASSIFIERS[classifier.stem]
    cut = runtime(tflite_model.truncate(content), kernels)
    whole = runtime(content, kernels, experimental_preserve_all_tensors=True)
    (index,) = (
        d["index"]
        for d in whole.get_tensor_details()
        if d["name"].split(";")[0] == tensor and d["shape"].tolist() == [1, 1, 1, width]
    )
    for photo in some_photos:
        invoke(whole, photo)
        assert np.array_equal(invoke(cut, photo), whole.get_tensor(index))


def original_layer(model: schema.ModelT) -> tuple[Head, list]:
    """The last layer of a classifier, with its weights as float32, and what follows it."""
    graph = model.subgraphs[0]
    at = max(
        i
        for i, op in enumerate(graph.operators)
        if tflite_model.operator_name(model, op) in ("CONV_2D", "FULLY_CONNECTED")
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
    limits = (-128, 127) if logits.zeroPoint[0] < 0 else (0, 255)
    low, high = (float(logits.scale[0] * (n - logits.zeroPoint[0])) for n in limits)
    return Head(weights.T.astype(np.float32), biases[:, 0].astype(np.float32), (low, high))


def test_the_original_layer_can_be_put_back(classifier: Path, photos: Path):
    content = classifier.read_bytes()
    head = original_layer(tflite_model.read(content))
    whole = runtime(content)
    again = runtime(tflite_model.append_head(tflite_model.truncate(content), head))
    same = []
    for path in sorted(photos.glob("*/*.jpg"))[::2]:
        with Image.open(path) as photo:
            same.append(invoke(whole, photo).argmax() == invoke(again, photo).argmax())
    assert np.mean(same) >= 0.99


def test_nothing_unused_is_left_and_the_rest_is_as_it_was(classifier: Path):
    before = tflite_model.read(classifier.read_bytes())
    after = tflite_model.read(tflite_model.truncate(classifier.read_bytes()))
    old, new = before.subgraphs[0], after.subgraphs[0]
    count = len(new.operators)
    assert len(old.operators) - count in (3, 4)
    for one, other in zip(old.operators, new.operators, strict=False):
        assert tflite_model.operator_name(before, one) == tflite_model.operator_name(after, other)
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
    assert [m.name for m in after.metadata] == [b"min_runtime_version"]
    assert len(tflite_model.truncate(classifier.read_bytes())) < classifier.stat().st_size


def test_a_named_tensor(models: Path):
    content = (models / "mobilenet_v2_1.0_224_quant.tflite").read_bytes()
    tensor = "MobilenetV2/Logits/AvgPool"
    assert tflite_model.truncate(content, tensor) == tflite_model.truncate(content)
    with pytest.raises(UserError, match="nearest names are: MobilenetV2/Logits/AvgPool,"):
        tflite_model.truncate(content, "MobilenetV2/Logits/AvgPol")
    with pytest.raises(UserError, match=r"has the shape \[1, 14, 14, 64\]; an embedding is a vec"):
        tflite_model.truncate(content, "MobilenetV2/expanded_conv_8/add")


def test_a_tensor_s_whole_name_goes_before_the_first_of_joined_ones(models: Path):
    content = (models / "mobilenet_v2_1.0_224_quant.tflite").read_bytes()

    def rename(model: schema.ModelT) -> None:
        pool, conv = (op.outputs[0] for op in model.subgraphs[0].operators[-4:-2])
        model.subgraphs[0].tensors[pool].name = b"Pool"
        model.subgraphs[0].tensors[conv].name = b"Pool;Conv"

    def join(model: schema.ModelT) -> None:
        rename(model)
        (pool,) = model.subgraphs[0].operators[-4].outputs
        model.subgraphs[0].tensors[pool].name = b"Pool;Mean"

    (embedding,) = tflite_model.signatures(tflite_model.truncate(changed(content, rename), "Pool"))[
        1
    ]
    assert embedding.shape == (1, 1, 1, 1280)
    with pytest.raises(UserError, match=r"several tensors(.|\n)*  Pool;Mean\n  Pool;Conv"):
        tflite_model.truncate(changed(content, join), "Pool")


def test_a_fully_connected_head_and_int8_ends(models: Path, some_photos):
    """A classifier that this project wrote, without its last QUANTIZE and its first."""
    ptq = tflite_model.truncate((models / "tf2_mobilenet_v2_1.0_224_ptq.tflite").read_bytes())
    random = np.random.default_rng(0)
    head = Head(random.normal(0, 0.1, (1280, 7)).astype(np.float32), np.zeros(7, np.float32), None)
    model = tflite_model.read(tflite_model.append_head(ptq, head))
    graph = model.subgraphs[0]
    graph.operators = graph.operators[1:-1]
    graph.inputs = [graph.operators[0].inputs[0]]
    graph.outputs = [graph.operators[-1].outputs[0]]
    content = tflite_model.write(model)
    assert tflite_model.signatures(content)[0][0].dtype == "int8"
    assert tflite_model.signatures(content)[1][0].dtype == "int8"
    cut = tflite_model.truncate(content)
    (embedding,) = tflite_model.signatures(cut)[1]
    assert (embedding.shape, embedding.dtype) == ((1, 1, 1, 1280), "int8")


def changed(content: bytes, change) -> bytes:
    model = tflite_model.read(content)
    change(model)
    return tflite_model.write(model)


def as_detector(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.outputs = [*graph.outputs, graph.operators[-2].outputs[0]]


def as_float(model: schema.ModelT) -> None:
    for tensor in model.subgraphs[0].tensors:
        tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (as_detector, "2 outputs, so it is no classifier"),
        (as_float, "is float32: a model for the Edge TPU must be quantized"),
        (lambda m: m.subgraphs.append(m.subgraphs[0]), "2 subgraphs"),
        (lambda m: m.subgraphs[0].operators.pop(-3), "does not end in a fully connected layer"),
    ],
)
def test_what_has_no_such_place_is_refused(models: Path, change, reason):
    content = (models / "mobilenet_v1_0.25_128_quant.tflite").read_bytes()
    with pytest.raises(UserError, match=reason) as error:
        tflite_model.truncate(changed(content, change))
    assert "Its last operators are" in str(error.value) or len(reason) < 12


def test_what_cannot_be_cut_is_not_said_to_be(models: Path):
    content = (models / "mobilenet_v1_0.25_128_quant.tflite").read_bytes()
    assert "would not be cut: its tensor" in tflite_model.show(changed(content, as_float))


def test_an_extractor_that_computes_in_float_is_refused(models: Path):
    def with_a_gap(model: schema.ModelT) -> None:
        (output,) = model.subgraphs[0].operators[4].outputs
        model.subgraphs[0].tensors[output].type = schema.TensorType.FLOAT32

    content = (models / "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite").read_bytes()
    extractor.check("x", content, 1024)
    with pytest.raises(UserError, match="only in part: CONV_2D would compute in float"):
        extractor.check("x", changed(content, with_a_gap), 1024)


def test_an_extractor_of_two_inputs_is_refused(models: Path):
    def with_two(model: schema.ModelT) -> None:
        model.subgraphs[0].inputs = [*model.subgraphs[0].inputs] * 2

    content = (models / "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite").read_bytes()
    with pytest.raises(UserError, match="has 2 inputs; one is due"):
        extractor.check("x", changed(content, with_two), 1024)


def test_a_refusal_lists_the_last_operators(models: Path):
    path = models / "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"
    with pytest.raises(UserError, match=r"AVERAGE_POOL_2D -> 'MobilenetV1/Logits/AvgPool_1a"):
        tflite_model.truncate(path.read_bytes())


def test_a_compiled_model_is_refused(models: Path):
    path = models / "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite"
    with pytest.raises(UserError, match=r"Edge TPU already(.|\n)*  edgetpu-custom-op -> "):
        tflite_model.truncate(path.read_bytes())


def test_another_width_than_expected_leaves_nothing(models: Path, tmp_path: Path):
    path = models / "mobilenet_v2_1.0_224_quant.tflite"
    with pytest.raises(UserError, match="1280 wide; the backbone's entry says 1024"):
        extractor.truncate_tflite(path, tmp_path / "cut.tflite", width=1024)
    assert list(tmp_path.iterdir()) == []


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    parts = [sys.executable, "-m", "edgetpu_retrain.tflite_model", *map(str, arguments)]
    return subprocess.run(parts, capture_output=True, text=True)


def test_the_command_shows_and_cuts(models: Path, tmp_path: Path):
    path, out = models / "tf2_mobilenet_v2_1.0_224_ptq.tflite", tmp_path / "cut.tflite"
    shown = command("show", path).stdout
    for line in (
        "input   'input' uint8 [1, 224, 224, 3], scale 0.007843138, zero point 127",
        "SOFTMAX (version 2)",
        "compiled for the Edge TPU: no",
        "would be cut at: 'MobileNetV2/top/Reshape/Reshape'... int8 [1, 1, 1, 1280]",
    ):
        assert line in shown
    assert command("truncate", path, out).returncode == 0
    assert out.read_bytes() == tflite_model.truncate(path.read_bytes())
    tensor = ("--tensor", "MobileNetV2/top/Reshape/Reshape")
    assert command("truncate", path, tmp_path / "named.tflite", *tensor).returncode == 0
    compiled = models / "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite"
    assert "compiled for the Edge TPU: yes" in command("show", compiled).stdout


@pytest.mark.parametrize("content", [b"", b"text", b"\x1c\0\0\0TFL3" + b"\xff" * 50])
def test_the_command_refuses_what_is_no_model(tmp_path: Path, content):
    (tmp_path / "x.tflite").write_bytes(content)
    for arguments in (("show", tmp_path / "x.tflite"), ("truncate", tmp_path / "x.tflite", "out")):
        done = command(*arguments)
        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: {tmp_path / 'x.tflite'}: ")
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_truncated_file_is_refused(models: Path, tmp_path: Path):
    content = (models / "mobilenet_v2_1.0_224_quant.tflite").read_bytes()
    (tmp_path / "x.tflite").write_bytes(content[:1_000_000])
    done = command("truncate", tmp_path / "x.tflite", tmp_path / "out.tflite")
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr


def with_no_subgraph(model: schema.ModelT) -> None:
    model.subgraphs = []


def with_no_operators(model: schema.ModelT) -> None:
    model.subgraphs[0].operators = None


def with_a_tensor_too_few(model: schema.ModelT) -> None:
    model.subgraphs[0].tensors.pop()


def with_a_buffer_too_few(model: schema.ModelT) -> None:
    model.buffers.pop()


def with_an_operator_code_too_few(model: schema.ModelT) -> None:
    model.operatorCodes.pop()


@pytest.mark.parametrize(
    "damage",
    [
        with_no_subgraph,
        with_no_operators,
        with_a_tensor_too_few,
        with_a_buffer_too_few,
        with_an_operator_code_too_few,
    ],
)
def test_a_file_that_refers_to_what_is_not_there_is_refused(models: Path, damage):
    content = changed((models / "mobilenet_v1_0.25_128_quant.tflite").read_bytes(), damage)
    for use in (tflite_model.show, tflite_model.truncate):
        with pytest.raises(UserError, match="a damaged or incomplete TFLite model"):
            use(content)


def test_cutting_needs_neither_tensorflow_nor_much_memory(models: Path, tmp_path: Path):
    path = models / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    code = (
        "import resource, sys; from edgetpu_retrain import tflite_model;"
        f"tflite_model.main(['truncate', {str(path)!r}, {str(tmp_path / 'x')!r}]);"
        "assert not any(name.startswith('tensorflow') for name in sys.modules);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 300e6
