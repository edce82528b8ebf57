"""On the sample's photos and network; expected classes are those of the largest cosine."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgetpu_retrain import ImprintingEngine
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.evaluation import scoring
from edgetpu_retrain.head import l2_normalize
from edgetpu_retrain.photos import preprocessing
from edgetpu_retrain.photos.decode import read_photo
from edgetpu_retrain.tflite.l2_normalization import append_l2_normalization
from edgetpu_retrain.tflite.model import Model

PER_CLASS = 12


@pytest.fixture(scope="module")
def pixels(sample_photos: Path) -> list[np.ndarray]:
    """Of three classes, one after the other."""
    return [
        preprocessing.to_pixels(read_photo(path.read_bytes()), (96, 96))
        for label in ("daisy", "rose", "tulip")
        for path in sorted((sample_photos / label).glob("*.jpg"))[:PER_CLASS]
    ]


LABELS = np.repeat([0, 1, 2], PER_CLASS)


def run(content: bytes, pixels: list[np.ndarray]) -> np.ndarray:
    """What a model gives for photos, dequantized."""
    model = Interpreter(model_content=content)
    model.allocate_tensors()
    (taken,), (given,) = model.get_input_details(), model.get_output_details()
    found = []
    for one in pixels:
        model.set_tensor(taken["index"], one[np.newaxis])
        model.invoke()
        found.append(model.get_tensor(given["index"]).reshape(-1).astype(np.float32))
    scale, zero_point = given["quantization"]
    return scale * (np.array(found) - zero_point)


def coral_model(extractor: Path, classes: np.ndarray, factor: int = 20) -> bytes:
    """A model laid out as Coral's for imprinting, with weights of its own."""
    model = append_l2_normalization(Model.load(extractor))
    count = len(classes)
    kernel = np.round(classes * 128 + 128).clip(0, 255).astype(np.uint8).reshape(count, 1, 1, -1)
    layer = [
        int(model.subgraph.outputs[0]),
        model.add_constant("kernel", kernel, 1 / 128, 128),
        model.add_constant("bias", np.zeros(count, np.int32), 1 / 128**2, 0),
    ]
    cosines = model.add_tensor("cosines", [1, 1, 1, count], "uint8", 1 / 256, 0)
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = 1
    model.add_operator("CONV_2D", layer, cosines, options)
    scale = model.add_constant("factor", np.array([factor], np.uint8), 1.0, 0)
    scaled = model.add_tensor("scaled", [1, 1, 1, count], "uint8", factor / 256, 0)
    model.add_operator("MUL", [cosines, scale], scaled, schema.MulOptionsT())
    flat = model.add_tensor("flat", [1, count], "uint8", factor / 256, 0)
    shape = model.add_constant("shape", np.array([1, count], np.int32))
    options = schema.ReshapeOptionsT()
    options.newShape = [1, count]
    model.add_operator("RESHAPE", [scaled, shape], flat, options)
    scores = model.add_tensor("scores", [1, count], "uint8", 1 / 256, 0)
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    model.add_operator("SOFTMAX", [flat], scores, options)
    model.subgraph.outputs = [scores]
    return model.to_bytes()


def teach(engine: ImprintingEngine, pixels, labels, first: int = 0) -> np.ndarray:
    """Trains one photo after the other; returns the classes of the largest cosine."""
    embeddings = run(engine.serialize_extractor_model(), pixels)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=0.1)
    for embedding, label in zip(embeddings, labels, strict=True):
        assert len(embedding) == engine.embedding_dim
        engine.train(embedding, first + label)
    means = np.stack([embeddings[labels == label].sum(axis=0) for label in np.unique(labels)])
    return (l2_normalize(embeddings) @ l2_normalize(means).T).argmax(axis=1) + first


def test_an_extractor_learns_classes(made: Path, pixels):
    engine = ImprintingEngine(made / "extractor.tflite")
    assert (engine.num_classes, engine.embedding_dim) == (0, 256)
    expected = teach(engine, pixels, LABELS)
    scores = run(engine.serialize_model(), pixels)
    assert np.mean(scores.argmax(axis=1) == expected) > 0.94
    assert np.mean(scores.argmax(axis=1) == LABELS) > 0.8


@pytest.mark.parametrize("coral", [False, True])
def test_a_class_is_added_and_the_others_stay(made: Path, pixels, tmp_path: Path, coral: bool):
    two = LABELS < 2
    if coral:
        embeddings = run(
            ImprintingEngine(made / "extractor.tflite").serialize_extractor_model(), pixels
        )
        means = np.stack([embeddings[label == LABELS].mean(axis=0) for label in (0, 1)])
        content = coral_model(made / "extractor.tflite", l2_normalize(means))
    else:
        engine = ImprintingEngine(made / "extractor.tflite")
        teach(engine, [p for p, chosen in zip(pixels, two, strict=True) if chosen], LABELS[two])
        content = engine.serialize_model()
    path = tmp_path / "two.tflite"
    path.write_bytes(content)
    engine = ImprintingEngine(path, keep_classes=True)
    assert engine.num_classes == 2
    new = [p for p, chosen in zip(pixels, ~two, strict=True) if chosen]
    teach(engine, new, np.zeros(len(new), int), first=2)
    after = Model.parse(engine.serialize_model(), "after")
    scores = run(after.to_bytes(), pixels)
    assert scores.shape == (3 * PER_CLASS, 3)
    assert np.mean(scores.argmax(axis=1) == LABELS) > 0.8
    before = Model.load(path)
    name = "CONV_2D" if coral else "FULLY_CONNECTED"
    kernels = []
    for model in (before, after):
        layer = [op for op in model.operators if op.name == name][-1]
        kernels.append(model.constant(layer.inputs[1]).reshape(-1, 256))
    assert np.array_equal(kernels[1][:2], kernels[0])
    # What was in the file from elsewhere cannot be trained; what was imprinted goes on.
    if coral:
        with pytest.raises(RuntimeError, match="Class 0 was not trained by imprinting"):
            engine.train(np.zeros(256), 0)
    else:
        engine.train(np.ones(256), 0)
    path.write_bytes(after.to_bytes())
    ImprintingEngine(path, keep_classes=True).train(np.ones(256), 2)


def test_a_coral_model_forgets_its_classes(made: Path, pixels, tmp_path: Path):
    path = tmp_path / "coral.tflite"
    path.write_bytes(coral_model(made / "extractor.tflite", np.eye(7, 256)))
    engine = ImprintingEngine(path)
    assert engine.num_classes == 0
    expected = teach(engine, pixels, LABELS)
    scores = run(engine.serialize_model(), pixels)
    assert scores.shape == (3 * PER_CLASS, 3)
    assert np.mean(scores.argmax(axis=1) == expected) > 0.85
    assert ImprintingEngine(path, keep_classes=True).num_classes == 7


def test_the_last_layer_alone_gives_what_the_file_gives(made: Path, pixels, tmp_path: Path):
    engine = ImprintingEngine(made / "extractor.tflite")
    teach(engine, pixels, LABELS)
    path = tmp_path / "model.tflite"
    path.write_bytes(engine.serialize_model())
    extractor = Model.load(made / "extractor.tflite")
    scale, zero_point = extractor.outputs[0].scale, extractor.outputs[0].zero_point
    embeddings = run(extractor.to_bytes(), pixels) / scale + zero_point
    scores = scoring.score(path, np.round(embeddings).astype(np.uint8))
    assert np.array_equal(scores, np.round(run(path.read_bytes(), pixels) * 256))


def test_what_pycoral_says_too(made: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"Failed to open file: invalid_model_path\.tflite"):
        ImprintingEngine("invalid_model_path.tflite")
    message = r"Unsupported model architecture\. Input model must have an L2Norm layer\."
    with pytest.raises(ValueError, match=message):
        ImprintingEngine(made / "classifier.tflite")
    engine = ImprintingEngine(made / "extractor.tflite", keep_classes=False)
    with pytest.raises(RuntimeError, match=r"Model is not trained\."):
        engine.serialize_model()
    for embedding, class_id in ((np.ones(256), 1), (np.ones(256), -1), (np.ones(255), 0)):
        with pytest.raises(UserError):
            engine.train(embedding, class_id)
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    with pytest.raises(ValueError, match="is not a TFLite model"):
        ImprintingEngine(broken)
