"""Fine-tuning: TensorFlow computes what the interpreter does, and only weights change."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.fine_tuning import views
from edgetpu_retrain.io import files
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.tflite.layers import last_layers, read_weights, write_weights
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import truncate

# Each with a number of layers. That of MobileNet v2 begins inside of a residual block, so that one
# more layer is needed in front; the last one is quantized per channel.
NETWORKS = [
    ("mobilenet_v1_1.0_224_quant_embedding_extractor.tflite", 5),
    ("mobilenet_v2_1.0_224_quant.tflite", 6),
    ("tf2_mobilenet_v2_1.0_224_ptq.tflite", 6),
]


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda network: network[0])
def network(request: pytest.FixtureRequest, models: Path) -> tuple[Model, int]:
    name, count = request.param
    model = Model.load(models / name)
    return (model if "extractor" in name else truncate(model)), count


@pytest.fixture(scope="module")
def flowers(photos: Path) -> list[tuple[str, str]]:
    paths = [path for folder in sorted(photos.iterdir()) for path in sorted(folder.iterdir())[:3]]
    return [(str(path), files.sha256(path)) for path in paths]


def embed(model: Model, flowers: list[tuple[str, str]], folder: Path) -> np.ndarray:
    """Real embeddings of the photos as they are, by the interpreter."""
    model.save(folder / "embed.tflite")
    interpreter = Interpreter(folder / "embed.tflite", "cpu")
    size, quantization = interpreter.input_size, interpreter.quantization
    assert quantization is not None
    return np.stack(
        [
            quantization.dequantize(
                interpreter.run(views.view(Image.open(path).convert("RGB"), sha256, 0, size))
            )
            for path, sha256 in flowers
        ]
    )


def test_the_layers_compute_what_the_interpreter_does(network, flowers, tmp_path):
    from edgetpu_retrain.fine_tuning.network import Network

    model, count = network
    last = last_layers(model, count)
    assert len(last.trained) == count
    activations = views.compute(model, last.boundary, flowers, tmp_path / "views")
    expected = embed(model, flowers, tmp_path)
    width = expected.shape[1]
    # With such a head, the logits are the embedding.
    rebuilt = Network(model, last, np.eye(width, dtype="f"), np.zeros(width, "f"), step=0.1)
    every = np.arange(len(flowers))
    actual = rebuilt.logits(activations[every, np.zeros_like(every)])
    steps = np.abs(actual - expected) / model.outputs[0].scale
    # Of the rounding in between, some is done the other way.
    assert np.mean(steps > 0.5) < 0.02
    assert steps.max() < 3.5


def test_weights_are_read_and_written(network):
    model, count = network
    changed = model.copy()
    last = last_layers(model, count)
    for number in last.trained:
        layer = last.layers[number]
        weights, biases, _ = read_weights(model, layer)
        write_weights(changed, layer, weights, biases)
    for layer in last.layers:
        for index in filter(None, (layer.weights, layer.biases)):
            before = model.constant(index).view(model.tensor(index).dtype)
            after = changed.constant(index).view(model.tensor(index).dtype)
            # The lowest integer is not used.
            assert np.all((before == after) | (before == np.iinfo(before.dtype).min))
