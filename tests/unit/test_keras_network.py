"""Keras models and SavedModels become float .tflite files."""

import importlib.util
import json
import subprocess
import sys
import zipfile
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
        "never built": "was never built",
        "weights": "has only weights, not the network",
        "Keras 2": "was saved by Keras 2.13.1, and Keras 3",
        "text": "is not a file saved by Keras",
        "initializer": "has the operators WriteFile, which can read or write files",
        "signature": "has the operators WriteFile",
        "main operator": "has the operators WriteFile",
        "old": "tf_keras can. Install it and run again: pip install --no-deps 'tf_keras==2.",
        "empty folder": "is not a SavedModel",
    }.items():
        assert part in said[name], name
        assert "\n" not in said[name], name
    # Nothing of a refused SavedModel was run.
    assert not (float_networks / "written").exists()


def test_old_files_of_keras(tmp_path: Path):
    """As Teachable Machine writes them: two networks in one, DepthwiseConv2D with `groups`."""
    pytest.importorskip("tf_keras", reason="needs tf_keras, which is not in requirements.txt")
    done = subprocess.run(
        [sys.executable, "-m", "tests.make_old_keras", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    keras_network.convert(tmp_path / "keras_model.h5", tmp_path / "x.tflite")
    content = (tmp_path / "x.tflite").read_bytes()
    scores = look.invoke(look.runtime(content), np.load(tmp_path / "picture.npy"))[0]
    np.testing.assert_allclose(scores, np.load(tmp_path / "scores.npy"), atol=1e-5)
    with pytest.raises(UserError, match=r"lambda\.h5 has a Lambda layer"):
        keras_network.convert(tmp_path / "lambda.h5", tmp_path / "x.tflite")
    with pytest.raises(UserError, match="has a part of the module os, which is not Keras"):
        keras_network.convert(tmp_path / "module.h5", tmp_path / "x.tflite")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["manifest.json", "class-1.zip"], "is a project of Teachable Machine: its photos"),
        (["labels.txt", "keras_model.h5"], "is an archive with keras_model.h5; unpack it"),
        (["labels.txt"], "is not a Keras model"),
    ],
)
def test_other_files_of_teachable_machine(tmp_path: Path, names: list[str], message: str):
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    with pytest.raises(UserError, match=message):
        keras_network.convert(tmp_path / "x", tmp_path / "x.tflite")


def test_without_tensorflow_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "x.keras").write_text("x")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find_spec(name)
    )
    with pytest.raises(UserError, match=r"-e '\.\[tensorflow\]'"):
        keras_network.convert(tmp_path / "x.keras", tmp_path / "x.tflite")
