"""Keras models and SavedModels become float .tflite files."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain.backbone import keras_network
from edgetpu_retrain.errors import UserError
from tests import models as look


@pytest.mark.parametrize("name", ["good.keras", "good"])
def test_a_converted_network_gives_the_same_scores(float_networks: Path, tmp_path: Path, name: str):
    network = float_networks / name
    if network.is_file():
        # What was downloaded has another name.
        network = tmp_path / "network"
        network.symlink_to(float_networks / name)
    keras_network.convert(network, tmp_path / "x.tflite")
    content = (tmp_path / "x.tflite").read_bytes()
    # No variables, no shape that is computed.
    names = {operator for operator, _ in look.operators(look.unpack(content))}
    assert names == {"CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"}
    scores = look.invoke(look.runtime(content), np.load(float_networks / "picture.npy"))[0]
    np.testing.assert_allclose(scores, np.load(float_networks / "scores.npy"), atol=1e-5)


def test_what_is_not_a_network_is_named(tmp_path: Path):
    (tmp_path / "x.keras").write_text("x")
    with pytest.raises(UserError, match=r"x\.keras is not a file saved by Keras"):
        keras_network.convert(tmp_path / "x.keras", tmp_path / "x.tflite")
    assert [path.name for path in tmp_path.iterdir()] == ["x.keras"]


def test_refusals_are_one_sentence_each(float_networks: Path):
    said = json.loads((float_networks / "refused.json").read_text())
    for name, part in {
        "own layer": "has Own, which is not part of Keras",
        "lambda": "has a Lambda layer",
        "any size": "has an input of variable size",
        "steps": "has an input of shape [None, 10, 8]; expected one RGB image",
        "detector": "has 2 outputs, so it is not a classifier",
        "never built": "was never built",
        "weights": "has only weights, not the network",
        "Keras 2": "was saved by Keras 2.13.1, and Keras 3",
        "text": "is not a file saved by Keras",
        "empty folder": "is not a SavedModel",
    }.items():
        assert part in said[name], name
        assert "\n" not in said[name], name
