"""One self-contained page of what a run found."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from edgetpu_retrain.index import corrections
from edgetpu_retrain.report import advice, cards, charts, history, words
from edgetpu_retrain.report.findings import Findings

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_MATRIX_CLASSES = 30
MOST_LINES = 200
_MEASURED_ON = {"test": "test photos", "cross_validation": "photos of the cross-validation"}


def render(template: str, context: Mapping[str, Any]) -> Iterator[str]:
    """Yields a self-contained page as HTML; whatever the context holds is text in it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = {
        name: Markup((_TEMPLATES / name).read_text(encoding="utf-8"))
        for name in ("page.css", "sort.js", "decide.js")
    }
    return environment.get_template(template).generate(context, parts=parts)


def report_page(
    found: Findings, earlier: Sequence[Mapping[str, Any]], folder: str
) -> Iterator[str]:
    """Yields the page of a run as HTML, a part after the other.

    Args:
        found: what to show.
        earlier: entries of `history`, the oldest first, without this run's.
        folder: where the files beside the page are.
    """
    context = {
        "folder": folder,
        "compared_at": str(Path(folder).parent / "comparison.html"),
        **_head(found, earlier),
        **cards.parts(found),
        **_figures(found),
        **_end(found, earlier),
    }
    context["sections"] = [
        (id, title)
        for id, title, there in (
            ("next", "What to do next", True),
            ("suspects", "Labels to check", True),
            ("copies", "Copies", True),
            ("mistakes", "Mistakes", True),
            ("uncertain", "Least certain", context["uncertain"]),
            ("confusion", "What is taken for what", found.result),
            ("classes", "Class by class", found.result),
            ("learning-curve", "Would more photos help?", context["curve"]),
            ("scores", "What a score is worth", context["thresholds"] or context["calibration"]),
            ("compared", "Backbones compared", found.run.comparison),
            ("skipped", "Not used", True),
            ("how", "How this was made", True),
        )
        if there
    ]
    return render("report.html.j2", context)


def _head(found: Findings, earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    run, result = found.run, found.result
    kinds = words.count(len(run.photos), "class", "classes")
    return {
        "dataset": words.shown(run.dataset),
        "backbone": words.shown(run.backbone),
        "counted": f"{words.count(sum(run.photos.values()), 'photo')} in {kinds}",
        "figure": words.percent(result["correct"], result["photos"]) if result else "unknown",
        "lead": "of the photos it had not learned from were named correctly."
        if result
        else "The accuracy was not measured.",
        "sentences": advice.verdict(found),
        "comparison": history.comparison(earlier[-1], history.entry(found)) if earlier else "",
        "corrected": _corrected(run.corrections),
        "on_cpu": result is not None and run.evaluation.get("device") == "cpu",
        "models": [
            {
                "name": path.name,
                "what": f"for the Edge TPU{_streamed(run.evaluation)}"
                if "_edgetpu" in path.name
                else "for the CPU",
                "size": words.size(path.stat().st_size),
            }
            for path in run.models
        ],
        "steps": advice.next_steps(found),
    }


def _streamed(evaluation: Mapping[str, Any]) -> str:
    """Says what a file sends to the Edge TPU for every image, if it does."""
    streamed = evaluation.get("streamed_bytes")
    return f" ({words.size(streamed)} of it sent anew for every image, slow)" if streamed else ""


def _corrected(applied: Sequence[corrections.AppliedCorrection]) -> list[str]:
    """Says what became of the corrections."""
    if not applied:
        return []
    photos: dict[str, list[Any]] = {outcome: [] for outcome in corrections.OUTCOMES}
    for one in applied:
        photos[one.outcome].append(one)
    some = [f"{len(them):,} {outcome}" for outcome, them in photos.items() if them]
    lines = [f"Your corrections were applied: {words.listed(some, most=4)}."]
    if photos[corrections.MISSING]:
        lines[0] += " The missing ones are of photos that are no longer there; they do no harm."
    return lines


def _figures(found: Findings) -> dict[str, Any]:
    """Returns the confusion matrix, the classes, the curves and the thresholds."""
    run, result, evaluation = found.run, found.result, found.run.evaluation
    names = list(result["classes"]) if result else []
    curve = evaluation.get("learning_curve") or []
    calibrated = evaluation.get("calibration")
    has_bins = calibrated is not None and any(one["photos"] for one in calibrated["bins"])
    return {
        "result": result,
        "classes": names,
        "result_said": _result_said(found),
        "matrix": _matrix(result) if result and len(names) <= _MOST_MATRIX_CLASSES else [],
        "pairs": found.pairs[:_MOST_MATRIX_CLASSES],
        "class_rows": _class_rows(run.photos, result) if result else [],
        "curve": charts.learning_curve(curve) if len(curve) > 1 else "",
        "curve_said": advice.curve(found)[0],
        "calibration": charts.calibration(calibrated["bins"]) if calibrated and has_bins else "",
        "calibration_said": _calibration_said(evaluation) if has_bins else "",
        "thresholds": [
            {
                "precision": f"{row['precision']:.0%}",
                "score": "no score reaches it" if row["score"] is None else f"{row['score']:.3f}",
                "coverage": "" if row["score"] is None else words.fraction(row["coverage"]),
            }
            for row in (evaluation.get("thresholds") or [] if result else [])
        ],
    }


def _result_said(found: Findings) -> str:
    if found.result is None:
        return ""
    where = "cross-validation" if found.source == "cross_validation" else "the test split"
    return f"{words.count(found.result['photos'], 'photo')}, {where}"


def _matrix(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for i, (name, numbers) in enumerate(
        zip(result["classes"], result["confusion_matrix"], strict=True)
    ):
        total = max(sum(numbers), 1)
        cells = [
            # Half strength at most, so that the numbers stay legible; a mistake is seen at once.
            {
                "photos": number,
                "correct": i == j,
                "share": f"{0.55 * (number / total) ** (1 if i == j else 0.5):.2f}",
            }
            for j, number in enumerate(numbers)
        ]
        rows.append({"name": name, "cells": cells})
    return rows


def _class_rows(photos: Mapping[str, int], result: Mapping[str, Any]) -> list[dict[str, Any]]:
    intervals = advice.class_intervals(result)
    rows = []
    for name, entry in result["classes"].items():
        judged, correct, predicted = entry["photos"], entry["correct"], entry["predicted"]
        low, high = intervals.get(name, (0.0, 1.0))
        rows.append(
            {
                "name": name,
                "photos": photos.get(name, 0),
                "judged": judged,
                "correct": correct,
                "recall": f"{correct / judged:.0%}" if judged else "",
                "recall_value": correct / judged if judged else -1,
                "interval": f"{100 * low:.0f} to {100 * high:.0f}%" if judged else "",
                "low": low if judged else -1,
                "precision": f"{correct / predicted:.0%}" if predicted else "",
                "precision_value": correct / predicted if predicted else -1,
                "f1": f"{2 * correct / (judged + predicted):.2f}" if judged + predicted else "",
                "f1_value": 2 * correct / (judged + predicted) if judged + predicted else -1,
            }
        )
    return rows


def _calibration_said(evaluation: Mapping[str, Any]) -> str:
    errors, temperature = evaluation["calibration"], evaluation.get("temperature")
    photos = _MEASURED_ON[errors.get("of", "test")]
    said = (
        f"On the {photos} score and share of correct answers differ by "
        f"{words.points(errors['after'])} on average"
    )
    if temperature is None or temperature == 1:
        return said + "; the scores are the layer's own."
    return (
        said + f"; by {words.points(errors['before'])} before one temperature "
        f"({temperature:.2f}) was fitted."
    )


def _end(found: Findings, earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns skipped photos, settings and what the page's script needs."""
    run = found.run
    skipped = [{"path": words.shown(s.path), "reason": s.reason} for s in run.skipped[:MOST_LINES]]
    said = f"{words.count(run.num_skipped, 'file')}, left out of everything."
    if run.num_skipped > MOST_LINES:
        said += f" The first {MOST_LINES} are shown, all are in skipped.tsv."
    now = {"time": "this run", **history.entry(found)}
    where = run.settings.get("corrections")
    return {
        "skipped": skipped,
        "skipped_said": said,
        "command": run.command,
        "compared_said": comparison_said(run.comparison) if run.comparison else "",
        "history": [_history_row(one) for one in (*earlier, now)],
        "settings": json.dumps(run.settings, indent=2, sort_keys=True, ensure_ascii=False),
        "versions": run.versions,
        "checksums": run.checksums,
        "saved_said": f"Saved, with the earlier ones: replace {where} by it and run again."
        if where
        else "Saved. Put it beside config.yaml, set corrections: corrections.tsv in there, and "
        "run again.",
        "data": {
            "key": f"{run.dataset} {run.backbone}",
            "classes": list(run.predictions.classes),
            "corrections": {
                one.sha256: {"label": one.label, "path": words.shown(one.path), "note": one.note}
                for one in run.corrections
            },
        },
    }


def comparison_said(rows: Sequence[Mapping[str, Any]]) -> str:
    """Says in a sentence or two which of the compared (`comparison.compare`) to take."""
    best, photos = rows[0], rows[0]["photos"]
    if not photos:
        return "No photo was judged by all of them, so nothing can be compared."
    near = [row for row in rows if not row["differs"]]
    text = f"On {words.count(photos, 'photo')}, "
    streaming = "".join(
        f" {_name(row)} does not fit the Edge TPU's memory: "
        f"{words.size(row['streamed_bytes'])} are sent to it anew for every image, which is slow."
        for row in rows
        if row.get("streamed_bytes")
    )
    if len(near) == 1:
        return f"{text}{_name(best)} is the most accurate, by more than chance.{streaming}"
    fastest = min(near, key=lambda row: row["milliseconds"])
    names = words.listed([_name(row) for row in near], most=6)
    return (
        f"{text}{names} do not differ by more than chance. Of these {_name(fastest)} is the "
        f"fastest on this machine.{streaming}"
    )


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['backbone']} ({row['recipe']})"


def _history_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    judged, correct = entry["judged"], entry["correct"]
    return {
        "time": entry["time"][:16].replace("T", " "),
        "backbone": entry["backbone"],
        "photos": entry["photos"],
        "classes": len(entry["classes"]),
        "corrections": entry["corrections"],
        "accuracy": words.percent(correct, judged) if judged else "not measured",
        "value": correct / judged if judged else -1,
    }
