"""The class `none` in a file: what the operators compute, against numpy written out."""

from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain.evaluation import scoring
from edgetpu_retrain.head import Gate, Head
from edgetpu_retrain.tflite.append_head import append_head
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import truncate
from tests import models as look
from tests.pictures import resized

CLASSES = ("bee", "none", "wasp")
ADDED = ["L2_NORMALIZATION", "FULLY_CONNECTED", "MUL", "FULLY_CONNECTED", "LOGISTIC", "SUB", "MUL"]


@pytest.fixture(scope="module", params=["uint8", "int8"])
def extractor(request, made: Path) -> Model:
    if request.param == "uint8":
        return Model.load(made / "extractor.tflite")
    return truncate(Model.load(made / "int8.tflite"))


@pytest.fixture(scope="module")
def pictures(sample_photos: Path) -> list[np.ndarray]:
    """Photos, and as many pictures of noise."""
    random = np.random.default_rng(0)
    photos = [resized(path, 96) for path in sorted(sample_photos.glob("*/*.jpg"))[::12]]
    return photos + [random.integers(0, 256, (96, 96, 3), np.uint8) for _ in photos]


@pytest.fixture(scope="module")
def embeddings(extractor: Model, pictures) -> np.ndarray:
    runtime = look.runtime(extractor.to_bytes())
    return np.concatenate([look.invoke(runtime, picture).reshape(1, -1) for picture in pictures])


def dequantized(extractor: Model, embeddings: np.ndarray) -> np.ndarray:
    (output,) = extractor.outputs
    return np.float32(output.scale) * (embeddings.astype(np.float32) - output.zero_point)


def head_for(values: np.ndarray, classes: tuple[str, ...], normalized: bool = False) -> Head:
    """A layer of random weights, and a gate around the first half of the photos."""
    weights = np.random.default_rng(1).normal(0, 0.2, (values.shape[1], 3)).astype(np.float32)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    photos = unit[: len(unit) // 2]
    axes = np.linalg.svd(photos, full_matrices=False)[2][:5].T.astype(np.float32)
    coordinates = photos @ axes
    lengths = np.sort((coordinates**2).sum(axis=1))
    given = unit if normalized else values
    logits = given @ weights
    return Head(
        weights,
        np.zeros(3, np.float32),
        (float(logits.min()), float(logits.max())),
        classes,
        normalized=normalized,
        gate=Gate(axes, float(lengths[len(lengths) // 4]), 60.0,
                  (float(coordinates.min()), float(coordinates.max()))),
    )  # fmt: skip


def written_out(head: Head, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Softmax scores of the three classes, and the score of being like the photos."""
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    logits = (unit if head.normalized else values) @ head.weights
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    length = ((unit @ head.gate.axes) ** 2).sum(axis=1)
    return scores, 1 / (1 + np.exp(-head.gate.slope * (length - head.gate.threshold)))


@pytest.mark.parametrize("kernels", look.KERNELS)
@pytest.mark.parametrize("normalized", [False, True])
def test_the_file_gives_photos_of_other_things_the_class_none(
    extractor, pictures, embeddings, kernels, normalized
):
    values = dequantized(extractor, embeddings)
    head = head_for(values, ("bee", "fly", "wasp", "none"), normalized)
    scores, known = written_out(head, values)
    expected = np.column_stack([scores * known[:, np.newaxis], 1 - known])
    np.testing.assert_allclose(head.scores(values), expected, atol=1e-5)
    runtime = look.runtime(append_head(extractor, head).to_bytes(), kernels)
    found = np.concatenate([look.invoke(runtime, picture) for picture in pictures])
    assert found.shape == (len(pictures), 4)
    assert found.dtype == np.uint8
    assert np.abs(found / 256 - expected).mean() < 0.03
    assert np.abs(found.sum(axis=1, dtype=int) - 256).max() <= 3
    rejected = found.argmax(axis=1) == 3
    half = len(pictures) // 2
    assert rejected[half:].all()
    assert 0 < rejected[:half].mean() < 0.7
    # Only those on the edge are judged differently.
    assert np.mean(rejected == (expected.argmax(axis=1) == 3)) > 0.9


def test_a_class_none_with_photos_gets_the_rest(extractor, pictures, embeddings):
    values = dequantized(extractor, embeddings)
    head = head_for(values, CLASSES)
    scores, known = written_out(head, values)
    expected = scores * known[:, np.newaxis]
    expected[:, 1] += 1 - known
    np.testing.assert_allclose(head.scores(values), expected, atol=1e-5)
    runtime = look.runtime(append_head(extractor, head).to_bytes())
    found = np.concatenate([look.invoke(runtime, picture) for picture in pictures])
    assert found.shape == (len(pictures), 3)
    assert np.abs(found / 256 - expected).mean() < 0.03
    assert np.all(found[len(pictures) // 2 :].argmax(axis=1) == 1)


def test_the_operators_are_those_that_old_runtimes_know(extractor, embeddings):
    values = dequantized(extractor, embeddings)
    count = len(extractor.operators)
    is_uint8 = embeddings.dtype == np.uint8
    for classes, last in ((("bee", "fly", "wasp", "none"), ["CONCATENATION"]),
                          (CLASSES, ["MUL", "ADD"])):  # fmt: skip
        model = look.unpack(append_head(extractor, head_for(values, classes)).to_bytes())
        operators = look.operators(model)[count:]
        names = [name for name, _ in operators]
        start = names.index("L2_NORMALIZATION")
        assert names[start:] == [*ADDED, *last, *([] if is_uint8 else ["QUANTIZE"])]
        versions = {"FULLY_CONNECTED": 4}
        for name, version in operators[start:]:
            expected = 1 if is_uint8 or name == "QUANTIZE" else versions.get(name, 2)
            assert version == expected, name


def test_the_last_layer_alone_gives_what_the_file_gives(
    extractor, pictures, embeddings, tmp_path: Path
):
    values = dequantized(extractor, embeddings)
    for classes in (("bee", "fly", "wasp", "none"), CLASSES):
        append_head(extractor, head_for(values, classes)).save(tmp_path / "x.tflite")
        runtime = look.runtime((tmp_path / "x.tflite").read_bytes())
        whole = np.concatenate([look.invoke(runtime, picture) for picture in pictures])
        assert np.array_equal(scoring.score(tmp_path / "x.tflite", embeddings), whole)


def test_both_processors_get_the_same_layers(made: Path, tmp_path: Path):
    random = np.random.default_rng(0)
    quantized = random.integers(0, 60, (20, 256), np.uint8)
    found = []
    for name in ("extractor", "extractor_edgetpu"):
        extractor = Model.load(made / f"{name}.tflite")
        head = head_for(dequantized(extractor, quantized), ("bee", "fly", "wasp", "none"))
        model = append_head(extractor, head)
        constants = {
            model.tensor(i).name: bytes(model.constant(i))
            for i in range(len(model.subgraph.tensors))
            if model.tensor(i).name.startswith("head/") and model.constant(i) is not None
        }
        assert {"head/weights", "head/none/axes/weights"} <= constants.keys()
        found.append(constants)
    assert found[0] == found[1]
