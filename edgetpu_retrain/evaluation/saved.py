"""Reads evaluation.json, and checks the form of what other stages use of it."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgetpu_retrain.io import files


class _Class(BaseModel):
    photos: int
    correct: int
    predicted: int


class _Result(BaseModel):
    photos: int
    correct: int
    accuracy: float
    interval: tuple[float, float]
    classes: dict[str, _Class]
    confusion_matrix: list[list[int]]


class _Bin(BaseModel):
    photos: int
    score: float
    accuracy: float


class _Calibration(BaseModel):
    of: str = "test"
    before: float | None
    after: float | None
    bins: list[_Bin]


class _Threshold(BaseModel):
    precision: float
    score: float | None
    coverage: float | None


class _Rejected(BaseModel):
    photos: int
    none: int


class _None(BaseModel):
    known: dict[str, _Rejected]
    left_out: dict[str, _Rejected]
    strangers: dict[str, int] | None


class _PseudoLabels(BaseModel):
    photos: int
    sure: int
    helps: bool
    loss: float | None = None
    loss_without: float | None = None


class _Evaluation(BaseModel):
    model: str
    device: str
    recipe: str
    classes: list[str]
    test: _Result | None
    cross_validation: _Result | None
    test_dataset: _Result | None
    learning_curve: list[dict[str, Any]] = []
    temperature: float = 1.0
    calibration: _Calibration | None = None
    thresholds: list[_Threshold] = []
    streamed_bytes: int | None = None
    nested: int = 0
    none: _None | None = None
    pseudo_labels: _PseudoLabels | None = None


def read(path: str | Path) -> dict[str, Any]:
    """Returns the content of an evaluation.json, as `evaluate.Evaluation.as_dict` made it.

    Raises:
        UserError: the file is damaged.
    """
    content: dict[str, Any] = files.read_json(path, _Evaluation)
    return content
