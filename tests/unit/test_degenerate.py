"""Networks that say the same of every photo, or nothing: found before training."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.backbone.kinds import Extractor, FloatClassifier
from edgetpu_retrain.backbone.quantize import degenerate
from edgetpu_retrain.backbone.quantize.quantization import Normalization
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.tflite.checks import check_width
from edgetpu_retrain.tflite.float_network import float_extractor
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.training.recipes import RECIPES, train
from tests import models as look
from tests.pictures import resized
from tests.unit.test_optimum import labelled_of

SCALING = Normalization(128, 128)


@pytest.fixture
def pixels(sample_photos: Path) -> np.ndarray:
    paths = sorted(sample_photos.glob("*/*.jpg"))[::20]
    return np.stack([resized(path, 96, "bilinear") for path in paths])


def test_weights_that_are_not_numbers(float_networks: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"nan\.tflite has weights that are not numbers .*conv2d"):
        FloatClassifier.make_extractor(
            float_networks / "nan.tflite", tmp_path / "out.tflite", None, None
        )


def with_first_layer(content: bytes, name: str, number: float) -> bytes:
    """A network whose first layer has a number added to its biases, or its weights times it."""

    def change(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        index = graph.operators[0].inputs[1 if name == "weights" else 2]
        values = look.values(model, index, np.float32)
        values = values * number if name == "weights" else values + number
        model.buffers[graph.tensors[index].buffer].data = np.frombuffer(
            values.astype(np.float32).tobytes(), np.uint8
        )

    return look.changed(content, change)


def test_a_sound_network_passes(made: Path, pixels: np.ndarray, tmp_path: Path):
    float_extractor(Model.load(made / "float.tflite")).save(tmp_path / "x.tflite")
    degenerate.check_embeddings(tmp_path / "x.tflite", pixels, SCALING)
    # One photo, and copies of it, cannot tell.
    degenerate.check_embeddings(tmp_path / "x.tflite", pixels[[0, 0]], SCALING)


def test_a_network_whose_first_layer_is_dead(made: Path, pixels: np.ndarray, tmp_path: Path):
    content = with_first_layer((made / "float.tflite").read_bytes(), "biases", -1e4)
    float_extractor(Model.parse(content, "x")).save(tmp_path / "x.tflite")
    with pytest.raises(UserError, match=r"same embedding for \d+ different photos.*mean and std"):
        degenerate.check_embeddings(tmp_path / "x.tflite", pixels, SCALING)


def test_embeddings_that_are_not_numbers(float_networks: Path, tmp_path: Path):
    """As of activations without a limit that grow beyond float32."""
    content = with_first_layer((float_networks / "largest.tflite").read_bytes(), "weights", 1e38)
    float_extractor(Model.parse(content, "x")).save(tmp_path / "x.tflite")
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    with pytest.raises(
        UserError, match=r"not numbers \(NaN or infinite\). Check the backbone's mean"
    ):
        degenerate.check_embeddings(tmp_path / "x.tflite", pictures, Normalization(0, 1))


@pytest.mark.parametrize("recipe", RECIPES)
def test_embeddings_that_hardly_differ(recipe: str):
    vectors = np.full((120, 64), 9, np.uint8)
    vectors[::3, 5] += 1
    vectors[7, 20] += 4
    with pytest.raises(UserError, match=r"the same embedding for all 96 photos, or nearly"):
        train(labelled_of(vectors, np.arange(120) % 3, "012"), recipe, seed=0)


def test_many_values_that_differ_by_one_step_tell_classes_apart():
    random = np.random.default_rng(0)
    labels = np.arange(240) % 3
    centres = random.integers(0, 2, (3, 512))
    vectors = (100 + (centres[labels] ^ (random.random((240, 512)) < 0.2))).astype(np.uint8)
    trained = train(labelled_of(vectors, labels, "012"), "optimum", seed=0)
    assert np.mean(trained.predictions.predicted == trained.labelled.labels) > 0.95


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf")])
def test_a_scale_that_is_no_scale(made: Path, tmp_path: Path, scale: float):
    def change(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.operators[0].outputs[0]].quantization.scale = [scale]

    content = look.changed((made / "extractor.tflite").read_bytes(), change)
    (tmp_path / "x.tflite").write_bytes(content)
    with pytest.raises(UserError, match=r"with a scale of .*Quantize the network again"):
        Extractor.make_extractor(tmp_path / "x.tflite", tmp_path / "out.tflite", None, None, None)


def test_too_wide_an_embedding_names_pooling(made: Path):
    def change(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.outputs[0]].shape = [1, 100_352]

    model = Model.parse(look.changed((made / "extractor.tflite").read_bytes(), change), "x")
    with pytest.raises(UserError, match=r"100352 values.*GlobalAveragePooling2D"):
        check_width(model, None)
