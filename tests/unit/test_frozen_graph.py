import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter as Runtime
from ai_edge_litert.interpreter import OpResolverType
from PIL import Image

from edgetpu_retrain import UserError, extractor, frozen_graph, tflite_model

SAMPLE = Path(__file__).parents[2] / "sample/mobilenet_v1_0.25_96_quant_frozen.pb"
POOL = "MobilenetV1/Logits/AvgPool_1a/AvgPool"


def truncate(graph: Path, output: Path, tensor: str = POOL) -> None:
    frozen_graph.truncate(graph, output, "input", tensor, 128, 128)


@pytest.mark.parametrize("kernels", [OpResolverType.AUTO, OpResolverType.BUILTIN_REF])
def test_the_published_extractor_bit_for_bit(models: Path, photos: Path, tmp_path: Path, kernels):
    name = "mobilenet_v1_1.0_224_quant"
    truncate(models / f"{name}_frozen.pb", tmp_path / "cut.tflite")
    cut = (tmp_path / "cut.tflite").read_bytes()
    published = (models / f"{name}_embedding_extractor.tflite").read_bytes()
    assert_same_outputs(cut, published, photos, kernels)
    assert tflite_model.signatures(cut) == tflite_model.signatures(published)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("mobilenet_v2_1.0_224_quant", "MobilenetV2/Logits/AvgPool"),
        ("mobilenet_v1_0.25_128_quant", POOL),
    ],
)
def test_the_same_as_cutting_the_tflite(models: Path, photos: Path, tmp_path: Path, name, tensor):
    truncate(models / f"{name}_frozen.pb", tmp_path / "cut.tflite", tensor)
    from_tflite = tflite_model.truncate((models / f"{name}.tflite").read_bytes())
    cut = (tmp_path / "cut.tflite").read_bytes()
    for kernels in (OpResolverType.AUTO, OpResolverType.BUILTIN_REF):
        assert_same_outputs(cut, from_tflite, photos, kernels)


def assert_same_outputs(one: bytes, other: bytes, photos: Path, kernels: OpResolverType) -> None:
    models = [
        Runtime(model_content=content, experimental_op_resolver_type=kernels)
        for content in (one, other)
    ]
    for model in models:
        model.allocate_tensors()
    size = tuple(int(n) for n in models[0].get_input_details()[0]["shape"][1:3])
    for path in sorted(photos.glob("*/*.jpg"))[::100]:
        with Image.open(path) as photo:
            pixels = np.asarray(photo.resize(size, Image.Resampling.NEAREST))[np.newaxis]
        outputs = []
        for model in models:
            model.set_tensor(model.get_input_details()[0]["index"], pixels)
            model.invoke()
            outputs.append(model.get_tensor(model.get_output_details()[0]["index"]))
        assert np.array_equal(*outputs)


def test_the_sample_s_backbone(tmp_path: Path):
    assert SAMPLE.stat().st_size <= 2_000_000
    truncate(SAMPLE, tmp_path / "cut.tflite")
    content = (tmp_path / "cut.tflite").read_bytes()
    (image,), (embedding,) = tflite_model.signatures(content)
    assert (image.shape, image.dtype) == ((1, 96, 96, 3), "uint8")
    assert (embedding.shape, embedding.dtype) == ((1, 1, 1, 256), "uint8")
    assert set(tflite_model.operator_versions(content).values()) == {1}


def test_a_wrong_tensor_names_the_right_ones(tmp_path: Path):
    with pytest.raises(UserError, match="holds no node 'MobilenetV1/AvgPool'") as error:
        truncate(SAMPLE, tmp_path / "cut.tflite", "MobilenetV1/AvgPool")
    assert f"pooling layers are: {POOL}" in str(error.value)
    assert "Its inputs are: input" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_converter_s_own_words_are_shown(tmp_path: Path, monkeypatch):
    # A stand-in for tflite_convert that fails with a trace of 100 lines.
    program = tmp_path / "tflite_convert"
    program.write_text("#!/bin/sh\nseq 100 >&2; echo 'Unsupported operation' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(frozen_graph, "_converter", lambda: str(program))
    with pytest.raises(UserError, match=r"tflite_convert could not cut(.|\n)*Unsupp") as error:
        truncate(SAMPLE, tmp_path / "out" / "cut.tflite")
    assert len(str(error.value).splitlines()) < 10
    assert list((tmp_path / "out").iterdir()) == []


def test_of_the_converter_s_trace_the_error_is_shown(tmp_path: Path):
    with pytest.raises(UserError, match=r"error: 'tf\.Placeholder' op is neither") as error:
        frozen_graph.truncate(SAMPLE, tmp_path / "cut.tflite", POOL, "input", 128, 128)
    assert len(str(error.value).splitlines()) < 8
    assert "qtype" not in str(error.value)


def test_a_feature_map_is_no_embedding(tmp_path: Path):
    tensor = "MobilenetV1/MobilenetV1/Conv2d_13_pointwise/act_quant/FakeQuantWithMinMaxVars"
    with pytest.raises(UserError, match=r"gives the shape \[1, 3, 3, 256\]; an embedding is a vec"):
        extractor.truncate_graph(SAMPLE, tmp_path / "cut.tflite", "input", tensor, 128, 128, 256)
    assert list(tmp_path.iterdir()) == []


def test_a_float_graph_is_refused(tmp_path: Path):
    code = (
        "import sys, tensorflow as tf\n"
        "with tf.Graph().as_default() as g:\n"
        "    x = tf.compat.v1.placeholder(tf.float32, [1, 4, 4, 3], 'input')\n"
        "    tf.nn.avg_pool2d(x, 4, 1, 'VALID', name='pool')\n"
        "open(sys.argv[1], 'wb').write(g.as_graph_def().SerializeToString())"
    )
    graph = tmp_path / "float.pb"
    subprocess.run([sys.executable, "-c", code, graph], check=True, capture_output=True)
    assert frozen_graph.nodes(graph) == {"input": "Placeholder", "pool": "AvgPool"}
    with pytest.raises(UserError, match=r"not quantization-aware(.|\n)*tflite: PATH"):
        truncate(graph, tmp_path / "cut.tflite", "pool")


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_what_is_no_graph_is_refused(tmp_path: Path, content):
    (tmp_path / "x.pb").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.pb cannot be read as a frozen TensorF") as error:
        truncate(tmp_path / "x.pb", tmp_path / "cut.tflite")
    assert len(str(error.value).splitlines()) == 2


def test_a_missing_graph_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.pb: there is no such frozen graph"):
        truncate(tmp_path / "none.pb", tmp_path / "cut.tflite")


def test_no_converter_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *args, **options: None)
    with pytest.raises(UserError, match="tflite_convert is not installed"):
        truncate(SAMPLE, tmp_path / "cut.tflite")
