"""Several backbones and recipes on the same photos: which does best, and what it costs."""

import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.io import files
from edgetpu_retrain.report import charts, words
from edgetpu_retrain.report.page import comparison_said, render
from edgetpu_retrain.training import predictions
from edgetpu_retrain.training.intervals import wilson_interval

_RUNS, _WARM_UP_RUNS = 30, 3
_QUANTILE_975 = 1.959964


@dataclass(frozen=True)
class Candidate:
    """What one backbone and recipe reached.

    Attributes:
        name: of the backbone.
        recipe: how the layer was trained.
        photos: [N] S64, sorted, identities of the photos that were judged by a layer that was
            trained without them.
        correct: [N] bool, which of these were classified correctly.
        milliseconds: what the model takes for one image on this machine's CPU, one thread.
        bytes: the size of the model's file for the CPU.
        edgetpu_milliseconds: what is published of the network on an Edge TPU; None where nothing
            is.
        streamed_bytes: parameters that the evaluated file sends to the Edge TPU anew for every
            image; None where it was one for the CPU.
    """

    name: str
    recipe: str
    photos: np.ndarray
    correct: np.ndarray
    milliseconds: float
    bytes: int
    edgetpu_milliseconds: float | None
    streamed_bytes: int | None = None


def judge(folder: str | Path, name: str, edgetpu_milliseconds: float | None) -> Candidate:
    """Reads what a run left in its folder below results/, and times its model.

    Args:
        folder: with predictions.tsv, evaluation.json and retrained_model.tflite.
        name: of the backbone.
        edgetpu_milliseconds: as `Candidate` has it.
    """
    folder = Path(folder)
    model = folder / "retrained_model.tflite"
    judged = predictions.read(folder / "predictions.tsv")
    evaluation = files.read_json(folder / "evaluation.json")
    out_of_fold = judged.folds >= 0
    identities = np.array(judged.identities, "S64")[out_of_fold]
    photos, rows = np.unique(identities, return_index=True)
    return Candidate(
        name,
        evaluation["recipe"],
        photos,
        (judged.predicted == judged.labels)[out_of_fold][rows],
        milliseconds_per_image(model),
        model.stat().st_size,
        edgetpu_milliseconds,
        evaluation.get("streamed_bytes"),
    )


def milliseconds_per_image(model: str | Path) -> float:
    """Returns the median time that a model takes for one image on the CPU, in one thread."""
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
    """Returns the 95 % interval of a difference of accuracies on the same photos.

    It is the adjusted Wald interval of Bonett and Price (Journal of Educational and Behavioral
    Statistics 37, 2012): a photo is added to each of the two kinds that only one got right.

    Args:
        first: [N] bool, what one got right.
        second: [N] bool, what the other got right.

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
    """Ranks candidates by their accuracy on the photos that all of them judged.

    Returns:
        Per candidate, the best first: backbone, recipe, photos, correct, accuracy, interval,
        `behind` (how far behind the best), `behind_interval` (paired) and `differs` (whether that
        interval leaves out 0), milliseconds, edgetpu_milliseconds, bytes and streamed_bytes.
    """
    shared = functools.reduce(np.intersect1d, (one.photos for one in candidates))
    right = [one.correct[np.searchsorted(one.photos, shared)] for one in candidates]
    order = sorted(
        range(len(candidates)), key=lambda i: (-int(right[i].sum()), candidates[i].milliseconds)
    )
    best = right[order[0]]
    rows = []
    for i in order:
        one, count = candidates[i], int(right[i].sum())
        low, high = paired_interval(best, right[i]) if len(shared) else (0.0, 0.0)
        rows.append(
            {
                "backbone": one.name,
                "recipe": one.recipe,
                "photos": len(shared),
                "correct": count,
                "accuracy": count / len(shared) if len(shared) else None,
                "interval": list(wilson_interval(count, len(shared))) if len(shared) else None,
                "behind": float((best.sum() - count) / len(shared)) if len(shared) else None,
                "behind_interval": [low, high],
                "differs": i != order[0] and low > 0,
                "milliseconds": round(one.milliseconds, 2),
                "edgetpu_milliseconds": one.edgetpu_milliseconds,
                "bytes": one.bytes,
                "streamed_bytes": one.streamed_bytes,
            }
        )
    return rows


def write_table(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Writes a comparison as JSON."""
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps(list(rows), indent=1) + "\n", encoding="utf-8")


def write_page(rows: Sequence[Mapping[str, Any]], dataset: str, path: str | Path) -> None:
    """Writes a comparison as a self-contained page."""
    context = {
        "dataset": words.shown(dataset),
        "said": comparison_said(rows),
        "rows": [_texts(row) for row in rows],
        "chart": charts.comparison(rows) if rows[0]["photos"] else "",
    }
    with files.replacing(path) as temporary:
        temporary.write_text("".join(render("comparison.html.j2", context)), encoding="utf-8")


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a comparison as a table of text."""
    from tabulate import tabulate

    texts = [_texts(row) for row in rows]
    keys = ("backbone", "recipe", "accuracy", "interval", "behind", "ms", "edgetpu_ms", "size")
    heads = ("backbone", "recipe", "accuracy", "95% interval", "behind the best", "ms here",
             "ms Edge TPU", "file")  # fmt: skip
    return tabulate([[text[key] for key in keys] for text in texts], heads, disable_numparse=True)


def _texts(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row's figures as a person reads them."""
    published = row["edgetpu_milliseconds"]
    texts = {
        "backbone": words.shown(row["backbone"]),
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
        behind = f"{100 * row['behind']:.1f}"
        texts["accuracy"] = words.percent(row["correct"], row["photos"])
        texts["interval"] = f"{100 * low:.1f} to {100 * high:.1f}%"
        texts["behind"] = f"{behind} points" if row["differs"] else f"{behind}, may be chance"
        if row["behind"] == 0:
            texts["behind"] = ""
    return texts
