"""A classifier's last layer on embeddings, against the whole file on the photos."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter as LiteRT
from PIL import Image

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.evaluation import scoring
from edgetpu_retrain.head import Head
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.tflite.append_head import append_head
from edgetpu_retrain.tflite.last_layer import last_layer
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import truncate


def run(model: Path, pixels: np.ndarray) -> np.ndarray:
    runtime = LiteRT(model_path=str(model))
    runtime.allocate_tensors()
    runtime.set_tensor(runtime.get_input_details()[0]["index"], pixels[np.newaxis])
    runtime.invoke()
    return runtime.get_tensor(runtime.get_output_details()[0]["index"]).ravel()


def random_head(width: int) -> Head:
    weights = np.random.default_rng(0).normal(0, 0.1, (width, 4)).astype(np.float32)
    return Head(weights, np.zeros(4, np.float32), (-12.0, 12.0), ("a", "b", "c", "d"))


@pytest.fixture(scope="module", params=["classifier", "int8"])
def written(request, made: Path, tmp_path_factory) -> tuple[Path, Path]:
    """An extractor of uint8 or int8 embeddings, and the same with a head."""
    folder = tmp_path_factory.mktemp("written")
    extractor = truncate(Model.load(made / f"{request.param}.tflite"))
    extractor.save(folder / "extractor.tflite")
    width = extractor.outputs[0].shape[-1]
    append_head(extractor, random_head(width)).save(folder / "classifier.tflite")
    return folder / "extractor.tflite", folder / "classifier.tflite"


@pytest.fixture(scope="module")
def flowers(sample_photos: Path) -> list[Photo]:
    paths = sorted(sample_photos.glob("*/*.jpg"))[::15]
    return [Photo(str(p), p.parent.name, "test", files.sha256(p)) for p in paths]


def pixels_of(photo: Photo, side: int) -> np.ndarray:
    with Image.open(photo.path) as image:
        return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def scored(written: tuple[Path, Path], flowers: list[Photo]) -> tuple[np.ndarray, np.ndarray]:
    """What the runtime says of the whole file, and `score` of the embeddings."""
    extractor, classifier = written
    side = Model.load(classifier).inputs[0].shape[1]
    pictures = [pixels_of(photo, side) for photo in flowers]
    embeddings = np.stack([run(extractor, pixels) for pixels in pictures])
    expected = np.stack([run(classifier, pixels) for pixels in pictures])
    return expected, scoring.score(classifier, embeddings)


def test_the_last_layer_alone_gives_the_bytes_of_the_whole_file(written, flowers):
    expected, found = scored(written, flowers)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)
    assert len(np.unique(found, axis=0)) > len(flowers) / 2


def test_a_compiled_classifier_scores_embeddings_without_an_edge_tpu(made: Path, tmp_path: Path):
    embeddings = np.random.default_rng(1).integers(0, 60, (3, 256)).astype(np.uint8)
    found = []
    for path in (made / "extractor.tflite", made / "extractor_edgetpu.tflite"):
        append_head(Model.load(path), random_head(256)).save(tmp_path / path.name)
        found.append(scoring.score(tmp_path / path.name, embeddings))
    assert np.array_equal(*found)


def test_a_model_without_such_a_layer_is_refused(written):
    with pytest.raises(UserError, match="no fully connected layer"):
        last_layer(Model.load(written[0]))


def test_raw_photos_agree_with_their_embeddings(written, flowers):
    expected, _ = scored(written, flowers)
    assert scoring.check_on_photos(written[1], flowers, expected, "cpu") > 0
    assert scoring.check_on_photos(written[1], [], expected[:0], "cpu") is None


def test_a_mismatch_is_an_error_that_names_the_photo(written, flowers):
    expected, _ = scored(written, flowers)
    expected[2] = expected[2][::-1] + 1
    with pytest.raises(UserError, match=rf"{Path(flowers[2].path).name}.* embeddings were"):
        scoring.check_on_photos(written[1], flowers, expected, "cpu")
