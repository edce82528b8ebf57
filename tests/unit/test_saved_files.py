"""Files of the project's own, damaged or written by others: a sentence, whatever is in them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain.deploy import deliver
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.evaluation import saved
from edgetpu_retrain.head import Head
from edgetpu_retrain.index.index import Digests
from edgetpu_retrain.labelling.sources import Sources
from edgetpu_retrain.report import comparison, findings, history, summary
from tests.conftest import ROOT
from tests.unit.test_report import made_up, run_of

NESTED = "[" * 100_000 + "]" * 100_000
RESULT = {
    "photos": 4,
    "correct": 3,
    "accuracy": 0.75,
    "interval": [0.3, 0.95],
    "classes": {"a": {"photos": 4, "correct": 3, "predicted": 3}},
    "confusion_matrix": [[3, 1], [0, 0]],
}
EVALUATION = {
    "model": "m.tflite",
    "device": "cpu",
    "recipe": "optimum",
    "classes": ["a", "b"],
    "test": RESULT,
    "cross_validation": None,
    "test_dataset": None,
}
RUN = {
    "time": "2026-01-01T00:00:00",
    "backbone": "net",
    "photos": 4,
    "classes": {"a": 4},
    "corrections": 0,
    "settings": {},
    "inputs": {},
    "source": "test",
    "judged": 4,
    "correct": 3,
}
ROW = {
    "backbone": "net",
    "recipe": "optimum",
    "photos": 4,
    "behind": 0.0,
    "differs": False,
    "milliseconds": 1.0,
}
SOURCES = dict.fromkeys(
    ("dataset", "manifest", "unlabelled", "applied", "groups", "labels", "folder"), "x"
) | {"embeddings": [], "is_trained_on": True}
# By file: what reads it, what is well formed, and what is not.
READERS: dict[str, tuple[Callable, object, list[object]]] = {
    "evaluation.json": (
        saved.read,
        EVALUATION,
        [
            EVALUATION | {"test": [1]},
            EVALUATION | {"test": RESULT | {"classes": {"a": 3}}},
            EVALUATION | {"cross_validation": RESULT | {"interval": None}},
            EVALUATION | {"thresholds": [{"precision": "high"}]},
        ],
    ),
    "runs.json": (
        lambda path: history.read([path]),
        [RUN],
        [RUN, [1], [RUN | {"time": 3}], [RUN | {"classes": ["a"]}], [{**RUN, "judged": "x"}]],
    ),
    "comparison.json": (comparison.read_table, [ROW], [[], [[]], [ROW | {"photos": None}]]),
    "quantization.json": (
        summary.quantized,
        {"check": None, "warnings": []},
        [{"check": 3, "warnings": []}, {"check": None, "warnings": [3]}],
    ),
    "deliver.json": (
        lambda path: deliver.delivered(path.parent),
        {"run": "x", "files": {}},
        [{"run": "x", "files": []}, {"run": 3, "files": {}}],
    ),
    "digests.json": (
        Digests.load,
        {"everything": "a", "labels": "b", "shards": ["c"]},
        [{"everything": "a", "labels": "b", "shards": 3}, {"everything": "a"}],
    ),
    "labelling.json": (Sources.load, SOURCES, [SOURCES | {"dataset": 3}, SOURCES | {"new": "y"}]),
}
WRONG = [None, 3, "text", [], {}]


@pytest.mark.parametrize("name", READERS)
def test_json_of_another_form_is_refused(name: str, tmp_path: Path):
    read, right, wrong = READERS[name]
    path = tmp_path / name
    path.write_text(json.dumps(right))
    read(path)
    others = [content for content in WRONG if (name, content) != ("runs.json", [])]
    for content in [*map(json.dumps, [*others, *wrong]), NESTED, "", '{"a":', "\0"]:
        path.write_text(content)
        with pytest.raises(UserError, match=rf"{name} is damaged \(.*Delete it and run again"):
            read(path)


def test_what_the_project_writes_is_well_formed(tmp_path: Path):
    found = findings.find(run_of(made_up(3, 20, 0.7)))
    history.append([], found, tmp_path / "runs.json")
    assert history.read([tmp_path / "runs.json"])[0]["photos"] == 60


def test_a_head_with_nested_notes_is_refused(tmp_path: Path):
    Head(np.zeros((4, 2), np.float32), np.zeros(2, np.float32), None).save(tmp_path / "head.npz")
    with np.load(tmp_path / "head.npz") as arrays:
        changed = dict(arrays) | {"training": np.array(NESTED)}
    np.savez(tmp_path / "head.npz", **changed)
    with pytest.raises(UserError, match=r"head\.npz is damaged"):
        Head.load(tmp_path / "head.npz")


@pytest.mark.parametrize(
    "content", [NESTED, "[]", '{"thresholds": [3]}', '{"thresholds": [{"precision": 0.9}]}', "{"]
)
def test_thresholds_that_are_none(content: str, made: Path, tmp_path: Path):
    (tmp_path / "evaluation.json").write_text(content)
    command = [sys.executable, ROOT / "scripts/classify_image.py", "--precision", "0.9"]
    command += ["--evaluation", tmp_path / "evaluation.json", "--input", tmp_path / "x.jpg"]
    command += ["--model", made / "classifier.tflite"]
    (tmp_path / "x.jpg").touch()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "--precision needs the evaluation.json of the model" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", [NESTED, "[]", '{"scores": 3}', '{"scores": {}}', "{"])
def test_a_damaged_answer_in_the_bundle(content: str, tmp_path: Path):
    for name in ("classify.py", "check.py", "photos.py"):
        shutil.copy(ROOT / "edgetpu_retrain/deploy/bundle" / name, tmp_path)
    for name in ("file_kinds.py", "jpeg_header.py"):
        shutil.copy(ROOT / "edgetpu_retrain/photos" / name, tmp_path)
    for name in ("model.tflite", "check.png"):
        (tmp_path / name).touch()
    (tmp_path / "check.json").write_text(content)
    command = [sys.executable, "classify.py", "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "check.json is damaged. Copy the whole bundle again." in done.stderr
    assert "Traceback" not in done.stderr
