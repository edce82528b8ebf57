import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain.backbone import frozen_graph
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.tflite import truncate as tflite
from edgetpu_retrain.tflite.model import Model
from tests import models as look
from tests.make_models import FROZEN_GRAPH as SAMPLE
from tests.pictures import resized

POOL = "MobilenetV1/Logits/AvgPool_1a/AvgPool"


def truncate(graph: Path, output: Path, tensor: str = POOL) -> None:
    frozen_graph.truncate(graph, output, "input", tensor, 128, 128)


def test_the_published_extractor_bit_for_bit(models: Path, photos: Path, tmp_path: Path):
    name = "mobilenet_v1_1.0_224_quant"
    truncate(models / f"{name}_frozen.pb", tmp_path / "cut.tflite")
    published = models / f"{name}_embedding_extractor.tflite"
    assert_same_outputs(
        (tmp_path / "cut.tflite").read_bytes(), published.read_bytes(), photos.glob("*/*.jpg"), 224
    )
    found, expected = Model.load(tmp_path / "cut.tflite"), Model.load(published)
    assert (found.inputs, found.outputs) == (expected.inputs, expected.outputs)


def test_the_same_as_cutting_the_published_tflite(models: Path, photos: Path, tmp_path: Path):
    for name, tensor, size in (
        ("mobilenet_v2_1.0_224_quant", "MobilenetV2/Logits/AvgPool", 224),
        ("mobilenet_v1_0.25_128_quant", POOL, 128),
    ):
        truncate(models / f"{name}_frozen.pb", tmp_path / "cut.tflite", tensor)
        from_tflite = tflite.truncate(Model.load(models / f"{name}.tflite")).to_bytes()
        cut = (tmp_path / "cut.tflite").read_bytes()
        assert_same_outputs(cut, from_tflite, photos.glob("*/*.jpg"), size)


def test_the_same_as_cutting_the_tflite(made: Path, sample_photos: Path, tmp_path: Path):
    truncate(SAMPLE, tmp_path / "cut.tflite")
    from_tflite = tflite.truncate(Model.load(made / "classifier.tflite")).to_bytes()
    cut = (tmp_path / "cut.tflite").read_bytes()
    assert_same_outputs(cut, from_tflite, sample_photos.glob("*/*.jpg"), 96)


def assert_same_outputs(one: bytes, other: bytes, photos: Iterable[Path], size: int) -> None:
    pictures = [resized(path, size) for path in sorted(photos)]
    for kernels in look.KERNELS:
        models = [look.runtime(content, kernels) for content in (one, other)]
        for picture in pictures[:: len(pictures) // 10]:
            assert np.array_equal(*(look.invoke(model, picture) for model in models))


def test_the_sample_s_backbone(tmp_path: Path):
    assert SAMPLE.stat().st_size <= 2_000_000
    truncate(SAMPLE, tmp_path / "cut.tflite")
    model = Model.load(tmp_path / "cut.tflite")
    (image,), (embedding,) = model.inputs, model.outputs
    assert (image.shape, image.dtype) == ((1, 96, 96, 3), "uint8")
    assert (embedding.shape, embedding.dtype) == ((1, 1, 1, 256), "uint8")
    assert {operator.version for operator in model.operators} == {1}


def test_a_wrong_tensor_names_the_right_ones(tmp_path: Path):
    with pytest.raises(UserError, match="has no node 'MobilenetV1/AvgPool'") as error:
        truncate(SAMPLE, tmp_path / "cut.tflite", "MobilenetV1/AvgPool")
    assert f"pooling layers are: {POOL}" in str(error.value)
    assert "Its inputs are: input" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_converter_s_own_words_are_shown(tmp_path: Path, monkeypatch):
    # A stand-in for tflite_convert that fails with a trace of 100 lines.
    program = tmp_path / "tflite_convert"
    program.write_text("#!/bin/sh\nseq 100 >&2; echo 'Unsupported operation' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(frozen_graph, "_find_converter", lambda: str(program))
    with pytest.raises(UserError, match=r"tflite_convert could not cut(.|\n)*Unsupp") as error:
        truncate(SAMPLE, tmp_path / "out" / "cut.tflite")
    assert len(str(error.value).splitlines()) < 10
    assert list((tmp_path / "out").iterdir()) == []


def test_of_the_converter_s_trace_the_error_is_shown(tmp_path: Path):
    with pytest.raises(UserError, match=r"error: 'tf\.Placeholder' op is neither") as error:
        frozen_graph.truncate(SAMPLE, tmp_path / "cut.tflite", POOL, "input", 128, 128)
    assert len(str(error.value).splitlines()) < 8
    assert "qtype" not in str(error.value)


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
    with pytest.raises(UserError, match=r"not quantization-aware(.|\n)*tflite: PATH"):
        truncate(graph, tmp_path / "cut.tflite", "pool")


def test_a_graph_that_reads_files_is_refused(tmp_path: Path):
    """If the embedding depends on it; what nothing depends on is cut off before it is run."""
    code = (
        "import sys, tensorflow as tf\n"
        "with tf.Graph().as_default() as g:\n"
        "    x = tf.compat.v1.placeholder(tf.float32, [1, 4, 4, 3], 'input')\n"
        "    x = tf.quantization.fake_quant_with_min_max_args(x, -1, 1, name='quantized')\n"
        "    tf.nn.avg_pool2d(x, 4, 1, 'VALID', name='pool')\n"
        "    read = tf.strings.to_number(tf.io.read_file('/etc/hostname'))\n"
        "    tf.nn.avg_pool2d(x + read, 4, 1, 'VALID', name='poisoned')\n"
        "open(sys.argv[1], 'wb').write(g.as_graph_def().SerializeToString())"
    )
    graph = tmp_path / "reads.pb"
    subprocess.run([sys.executable, "-c", code, graph], check=True, capture_output=True)
    with pytest.raises(UserError, match=r"has the operators ReadFile, which can read or write"):
        truncate(graph, tmp_path / "cut.tflite", "poisoned")
    truncate(graph, tmp_path / "cut.tflite", "pool")
    assert Model.load(tmp_path / "cut.tflite").outputs[0].shape[-1] == 3


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
