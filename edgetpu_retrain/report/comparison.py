"""Compares backbones and recipes on the same photos: accuracy, speed and size."""

import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import MinLen
from pydantic import BaseModel

from edgetpu_retrain.evaluation import saved
from edgetpu_retrain.io import files
from edgetpu_retrain.report import charts, words
from edgetpu_retrain.report.page import comparison_verdict, render
from edgetpu_retrain.training import predictions
from edgetpu_retrain.training.intervals import wilson_interval

_RUNS, _WARM_UP_RUNS = 30, 3
# The 97.5% quantile of the standard normal distribution.
_QUANTILE_975 = 1.959964


class _Row(BaseModel):
    """A row of `compare`, as far as it is read again."""

    backbone: str
    recipe: str
    photos: int
    behind: float | None
    differs: bool
    milliseconds: float
    streamed_bytes: int | None = None


@dataclass(frozen=True)
class Candidate:
    """The results of one backbone and recipe.

    Attributes:
        name: name of the backbone.
        recipe: name of the training recipe, with its settings (`recipes.folder_name`).
        photos: [N] S64, sorted, identities (SHA-256) of the cross-validated photos.
        correct: [N] bool, which of these were classified correctly.
        milliseconds: time per image on this machine's CPU, in one thread.
        num_bytes: size of the CPU model's file.
        edgetpu_milliseconds: published time per image of the network on an Edge TPU; None if none
            is published.
        streamed_bytes: bytes of parameters that the evaluated file sends to the Edge TPU for every
            image; None for a CPU file.
    """

    name: str
    recipe: str
    photos: np.ndarray
    correct: np.ndarray
    milliseconds: float
    num_bytes: int
    edgetpu_milliseconds: float | None
    streamed_bytes: int | None = None


def load_candidate(folder: str | Path, name: str, edgetpu_milliseconds: float | None) -> Candidate:
    """Loads the results of a run and times its model.

    Args:
        folder: the run's folder in results/, which is named after the recipe; has predictions.tsv,
            evaluation.json and retrained_model.tflite.
        name: name of the backbone.
        edgetpu_milliseconds: as in `Candidate`.

    Raises:
        UserError: a file is damaged.
    """
    folder = Path(folder)
    model = folder / "retrained_model.tflite"
    scored = predictions.read(folder / "predictions.tsv")
    evaluation = saved.read(folder / "evaluation.json")
    out_of_fold = scored.folds >= 0
    identities = np.array(scored.identities, "S64")[out_of_fold]
    photos, rows = np.unique(identities, return_index=True)
    return Candidate(
        name,
        folder.name,
        photos,
        (scored.predicted == scored.labels)[out_of_fold][rows],
        milliseconds_per_image(model),
        model.stat().st_size,
        edgetpu_milliseconds,
        evaluation.get("streamed_bytes"),
    )


def milliseconds_per_image(model: str | Path) -> float:
    """Returns the median time per image of a model on the CPU, in one thread."""
    from edgetpu_retrain.runtime.interpreter import Interpreter

    interpreter = Interpreter(model, "cpu", num_threads=1)
    width, height = interpreter.input_size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    times = []
    for _ in range(_WARM_UP_RUNS + _RUNS):
        start = time.perf_counter()
        interpreter.run(pixels)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[_WARM_UP_RUNS:]))


def paired_interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Returns the 95% confidence interval of the difference of two accuracies on the same photos.

    It is the adjusted Wald interval of Bonett and Price (Journal of Educational and Behavioral
    Statistics 37, 2012), which adds one photo to each of the two discordant counts: photos that
    only the first, or only the second, classified correctly.

    Args:
        first: [N] bool, whether the first model is correct.
        second: [N] bool, whether the second model is correct.

    >>> low, high = paired_interval(np.array([True] * 10), np.array([True] * 9 + [False]))
    >>> low < 0 < high
    True
    """
    count = len(first) + 2
    only_first = (float((first & ~second).sum()) + 1) / count
    only_second = (float((second & ~first).sum()) + 1) / count
    difference = only_first - only_second
    variance = (only_first + only_second - difference**2) / count
    half = _QUANTILE_975 * float(np.sqrt(variance))
    return difference - half, difference + half


def compare(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Ranks candidates by accuracy on the photos that were cross-validated with all of them.

    Returns:
        One row per candidate, best first: backbone, recipe, photos, correct, accuracy, interval,
        `behind` (difference in accuracy to the best), `behind_interval` (its paired 95% confidence
        interval), `differs` (whether that interval excludes 0), milliseconds, edgetpu_milliseconds,
        bytes and streamed_bytes. Accuracy, interval and behind are None without shared photos.
    """
    shared = functools.reduce(np.intersect1d, (candidate.photos for candidate in candidates))
    correct = [
        candidate.correct[np.searchsorted(candidate.photos, shared)] for candidate in candidates
    ]
    order = sorted(
        range(len(candidates)), key=lambda i: (-int(correct[i].sum()), candidates[i].milliseconds)
    )
    best = correct[order[0]]
    rows = []
    for i in order:
        candidate, count = candidates[i], int(correct[i].sum())
        low, high = paired_interval(best, correct[i]) if len(shared) else (0.0, 0.0)
        rows.append(
            {
                "backbone": candidate.name,
                "recipe": candidate.recipe,
                "photos": len(shared),
                "correct": count,
                "accuracy": count / len(shared) if len(shared) else None,
                "interval": list(wilson_interval(count, len(shared))) if len(shared) else None,
                "behind": float((best.sum() - count) / len(shared)) if len(shared) else None,
                "behind_interval": [low, high],
                "differs": i != order[0] and low > 0,
                "milliseconds": round(candidate.milliseconds, 2),
                "edgetpu_milliseconds": candidate.edgetpu_milliseconds,
                "bytes": candidate.num_bytes,
                "streamed_bytes": candidate.streamed_bytes,
            }
        )
    return rows


def write_table(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Writes the rows of `compare` as JSON."""
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps(list(rows), indent=1) + "\n", encoding="utf-8")


def read_table(path: str | Path) -> list[dict[str, Any]]:
    """Reads what `write_table` wrote.

    Raises:
        UserError: the file is damaged.
    """
    rows: list[dict[str, Any]] = files.read_json(path, Annotated[list[_Row], MinLen(1)])
    return rows


def write_page(rows: Sequence[Mapping[str, Any]], dataset: str, path: str | Path) -> None:
    """Writes the rows of `compare` as a self-contained HTML page."""
    context = {
        "dataset": words.printable(dataset),
        "verdict": comparison_verdict(rows),
        "rows": [_texts(row) for row in rows],
        "chart": charts.comparison(rows) if rows[0]["photos"] else "",
    }
    with files.replacing(path) as temporary:
        temporary.write_text("".join(render("comparison.html.j2", context)), encoding="utf-8")


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows of `compare` as a plain-text table."""
    from tabulate import tabulate

    texts = [_texts(row) for row in rows]
    keys = ("backbone", "recipe", "accuracy", "interval", "behind", "ms", "edgetpu_ms", "size")
    headers = ("backbone", "recipe", "accuracy", "95% interval", "behind the best", "ms CPU",
               "ms Edge TPU", "size")  # fmt: skip
    cells = [[text[key] for key in keys] for text in texts]
    return str(tabulate(cells, headers, disable_numparse=True))


def _texts(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the formatted cells of a row, and the row itself as `values` for sorting."""
    published = row["edgetpu_milliseconds"]
    texts = {
        "backbone": words.printable(row["backbone"]),
        "recipe": row["recipe"],
        "accuracy": "",
        "interval": "",
        "behind": "",
        "ms": f"{row['milliseconds']:.1f}",
        "edgetpu_ms": "" if published is None else f"{published:.1f}",
        "size": words.size(row["bytes"]),
        "values": row,
    }
    if row["photos"]:
        low, high = row["interval"]
        behind = words.points(row["behind"])
        texts["accuracy"] = words.percent(row["correct"], row["photos"])
        texts["interval"] = f"{100 * low:.1f} to {100 * high:.1f}%"
        texts["behind"] = behind if row["differs"] else f"{behind}, may be chance"
        if row["behind"] == 0:
            texts["behind"] = ""
    return texts
