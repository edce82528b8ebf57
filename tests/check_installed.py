"""Uses the package that the running Python has installed, and not the one in this folder.

    python tests/check_installed.py MODEL

MODEL is a quantized classifier, such as classifier.tflite of `tests.make_models`. Nothing but the
library and what it depends on is imported.
"""

import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import edgetpu_retrain
from edgetpu_retrain import ImprintingEngine, SoftmaxRegression


def tool(*arguments: object) -> str:
    # With -P, a package in the working folder is not taken for the installed one.
    command = [sys.executable, "-P", "-m", "edgetpu_retrain.tflite", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(model: Path) -> None:
    assert "would be cut at" in tool("show", model)
    with tempfile.TemporaryDirectory() as folder:
        extractor = Path(folder, "extractor.tflite")
        tool("truncate", model, extractor)
        assert "cannot be cut" in tool("show", extractor)

        engine = ImprintingEngine(extractor)
        embeddings = np.random.default_rng(0).random((20, engine.embedding_dim), np.float32)
        labels = np.arange(20) % 2
        embeddings[labels == 1, ::2] += 2
        for embedding, label in zip(embeddings, labels, strict=True):
            engine.train(embedding, class_id=label)
        imprinted = Path(folder, "imprinted.tflite")
        imprinted.write_bytes(engine.serialize_model())
        assert ImprintingEngine(imprinted, keep_classes=True).num_classes == 2

        layer = SoftmaxRegression(engine.embedding_dim, 2, seed=0)
        data = {"data_train": embeddings, "labels_train": labels}
        layer.train_with_sgd(data, num_iter=200, learning_rate=0.1, print_every=0)
        assert layer.get_accuracy(embeddings, labels) == 1
        retrained = Path(folder, "retrained.tflite")
        retrained.write_bytes(layer.serialize_model(extractor))
        assert "SOFTMAX" in tool("show", retrained)
    version = importlib.metadata.version("edgetpu-retrain")
    print(f"edgetpu-retrain {version} works in {Path(edgetpu_retrain.__file__).parent}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
