"""Renders the report as one self-contained HTML page."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from edgetpu_retrain.index import corrections
from edgetpu_retrain.report import (
    advice,
    cards,
    charts,
    fine_tuning,
    history,
    none_section,
    words,
)
from edgetpu_retrain.report.findings import Findings, Run
from edgetpu_retrain.report.unlabelled_section import unlabelled_section
from edgetpu_retrain.training import pseudo_labels

_TEMPLATES = Path(__file__).parent / "templates"
# With more classes, the page lists the most frequent confusions instead of the whole matrix.
_MAX_MATRIX_CLASSES = 30
MAX_LINES = 200
_TITLES = {
    "next": "What to do next",
    "suspects": "Labels to check",
    "copies": "Look-alike photos",
    "mistakes": "Misclassified photos",
    "uncertain": "Ambiguous photos",
    "unlabelled": "Photos without a label",
    "confusion": "Confusion matrix",
    "classes": "Results per class",
    "learning-curve": "Learning curve",
    "scores": "Score calibration and thresholds",
    "none": "Photos of other things",
    "compared": "Backbone comparison",
    "skipped": "Skipped files",
    "how": "Reproduce this model",
}
_MEASURED_ON = {"test": "test photos", "cross_validation": "cross-validated photos"}


def render(template: str, context: Mapping[str, Any]) -> Iterator[str]:
    """Yields a self-contained HTML page in parts; strings in the context are escaped.

    Args:
        template: file name in templates/.
        context: the template's variables.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = {
        name: Markup((_TEMPLATES / name).read_text(encoding="utf-8"))
        for name in ("page.css", "sort.js", "decide.js", "enlarge.js")
    }
    return environment.get_template(template).generate(context, parts=parts)


def report_page(
    findings: Findings, earlier: Sequence[Mapping[str, Any]], folder: str
) -> Iterator[str]:
    """Yields the report as HTML, in parts.

    Args:
        findings: the content.
        earlier: history entries of earlier runs, oldest first.
        folder: the run's folder in results/, which has the files that the page refers to.
    """
    unlabelled = findings.run.unlabelled
    context = {
        "folder": folder,
        "comparison_page": str(Path(folder).parent / "comparison.html"),
        **_head(findings, earlier),
        **cards.photo_sections(findings),
        "unlabelled": unlabelled_section(unlabelled, findings.run.photos) if unlabelled else None,
        **_metrics(findings),
        **none_section.section(findings.run.evaluation),
        **_end(findings, earlier),
    }
    optional = {
        "uncertain": context["uncertain"],
        "unlabelled": unlabelled,
        "confusion": findings.result,
        "classes": findings.result,
        "learning-curve": context["curve"],
        "scores": context["thresholds"] or context["calibration"],
        "none": context["none_rows"],
        "compared": findings.run.comparison,
    }
    context["titles"] = _TITLES
    context["sections"] = [id for id in _TITLES if optional.get(id, True)]
    return render("report.html.j2", context)


def _head(findings: Findings, earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the header, the verdict and the next steps."""
    run, result = findings.run, findings.result
    classes = words.count(len(run.photos), "class", "classes")
    return {
        "dataset": words.printable(run.dataset),
        "backbone": words.printable(run.backbone),
        "size": f"{words.count(sum(run.photos.values()), 'photo')} in {classes}",
        "accuracy": words.percent(result["correct"], result["photos"]) if result else "unknown",
        "lead": "of the photos held out of training were classified correctly."
        if result
        else "The accuracy was not measured.",
        "sentences": [
            *advice.verdict(findings),
            *_fine_tuning_text(run),
            *_pseudo_labels_text(run.evaluation),
        ],
        "last_run_text": history.comparison(earlier[-1], history.entry(findings))
        if earlier
        else "",
        "corrections": _corrections_text(run.corrections),
        "on_cpu": result is not None and run.evaluation.get("device") == "cpu",
        "models": [
            {
                "name": path.name,
                "device": f"for the Edge TPU{_streamed(run.evaluation)}"
                if "_edgetpu" in path.name
                else "for the CPU",
                "size": words.size(path.stat().st_size),
            }
            for path in run.models
        ],
        "edgetpu_model": run.edgetpu_model,
        "steps": advice.next_steps(findings),
    }


def _streamed(evaluation: Mapping[str, Any]) -> str:
    """Says how much a file sends to the Edge TPU for every image; empty for nothing."""
    streamed = evaluation.get("streamed_bytes")
    return f" ({words.size(streamed)} of it sent for every image: slow)" if streamed else ""


def _fine_tuning_text(run: Run) -> list[str]:
    if run.fine_tuning is None:
        return []
    text = fine_tuning.describe(run.fine_tuning)
    if nested := run.evaluation.get("nested"):
        text += f" {fine_tuning.describe_nested(nested)}"
    elif run.fine_tuning["layers"]:
        text += (
            " The cross-validation on this page leaves out the photos that the network was "
            "fine-tuned on, because it would be too optimistic about them. For the same reason, "
            "wrong labels among them are not found; with fine_tune: {nested: true} they can be."
        )
    return [text]


def _pseudo_labels_text(evaluation: Mapping[str, Any]) -> list[str]:
    taught = evaluation.get("pseudo_labels")
    return [pseudo_labels.describe(taught)] if taught else []


def _corrections_text(applied: Sequence[corrections.AppliedCorrection]) -> str:
    """Says how many corrections had which outcome; empty without corrections."""
    if not applied:
        return ""
    if all(correction.outcome == corrections.MISSING for correction in applied):
        number = words.count(len(applied), "correction")
        return f"No photo in the dataset has one of your {number}, so nothing was corrected."
    counts = Counter(correction.outcome for correction in applied)
    outcomes = [f"{counts[name]:,} {name}" for name in corrections.OUTCOMES if counts[name]]
    text = f"Your corrections were applied: {words.join(outcomes, most=len(outcomes))}."
    if counts[corrections.MISSING]:
        text += " Missing corrections belong to photos that are no longer in the dataset."
    return text


def _metrics(findings: Findings) -> dict[str, Any]:
    """Returns the confusion matrix, the results per class, the charts and the thresholds."""
    run, result, evaluation = findings.run, findings.result, findings.run.evaluation
    names = list(result["classes"]) if result else []
    curve = evaluation.get("learning_curve") or []
    calibration = evaluation.get("calibration")
    has_bins = calibration is not None and any(entry["photos"] for entry in calibration["bins"])
    return {
        "result": result,
        "classes": names,
        "evaluated": _evaluated_text(findings),
        "matrix": _matrix(result) if result and len(names) <= _MAX_MATRIX_CLASSES else [],
        "pairs": findings.pairs[:_MAX_MATRIX_CLASSES],
        "pairs_text": _pairs_text(findings),
        "class_rows": _class_rows(run.photos, result) if result else [],
        "curve": charts.learning_curve(curve) if len(curve) > 1 else "",
        "curve_without_pseudo_labels": bool((evaluation.get("pseudo_labels") or {}).get("helps")),
        "curve_text": advice.learning_curve(findings)[0],
        "calibration": charts.calibration(calibration["bins"]) if calibration and has_bins else "",
        "calibration_text": _calibration_text(evaluation) if has_bins else "",
        "thresholds": [
            {
                "precision": f"{row['precision']:.0%}",
                "score": "not reached" if row["score"] is None else f"{row['score']:.3f}",
                "coverage": "" if row["score"] is None else words.fraction(row["coverage"]),
            }
            for row in (evaluation.get("thresholds") or [] if result else [])
        ],
    }


def _evaluated_text(findings: Findings) -> str:
    """Says which photos the result covers."""
    if findings.result is None:
        return ""
    where = "in cross-validation" if findings.source == "cross_validation" else "in the test split"
    return f"{words.count(findings.result['photos'], 'photo')} {where}"


def _pairs_text(findings: Findings) -> str:
    """Introduces the table of pairs, which stands for a confusion matrix of many classes."""
    number = words.count(len(findings.pairs), "pair")
    shown = ""
    if len(findings.pairs) > _MAX_MATRIX_CLASSES:
        shown = f" The {_MAX_MATRIX_CLASSES} most frequent pairs are shown."
    return (
        f"{number} of classes were confused with each other ({_evaluated_text(findings)}).{shown} "
        "There are too many classes for the whole confusion matrix, which is in evaluation.json."
    )


def _matrix(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the rows of the confusion matrix, with the tint of each cell."""
    rows = []
    for i, (name, numbers) in enumerate(
        zip(result["classes"], result["confusion_matrix"], strict=True)
    ):
        total = max(sum(numbers), 1)
        cells = [
            # At most about half opaque, so that numbers stay legible. The square root makes rare
            # mistakes visible.
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
        if name not in photos:
            # The class `none` of a gate has no photos.
            continue
        evaluated, correct, predicted = entry["photos"], entry["correct"], entry["predicted"]
        low, high = intervals.get(name, (0.0, 1.0))
        rows.append(
            {
                "name": name,
                "photos": photos.get(name, 0),
                "evaluated": evaluated,
                "correct": correct,
                "recall": f"{correct / evaluated:.0%}" if evaluated else "",
                "recall_value": correct / evaluated if evaluated else -1,
                "interval": f"{100 * low:.0f} to {100 * high:.0f}%" if evaluated else "",
                "low": low if evaluated else -1,
                "precision": f"{correct / predicted:.0%}" if predicted else "",
                "precision_value": correct / predicted if predicted else -1,
                "f1": f"{2 * correct / (evaluated + predicted):.2f}"
                if evaluated + predicted
                else "",
                "f1_value": 2 * correct / (evaluated + predicted) if evaluated + predicted else -1,
            }
        )
    return rows


def _calibration_text(evaluation: Mapping[str, Any]) -> str:
    """Says how far scores are from the accuracy, and what temperature scaling changed."""
    errors, temperature = evaluation["calibration"], evaluation.get("temperature")
    photos = _MEASURED_ON[errors.get("of", "test")]
    text = (
        f"On the {photos}, score and accuracy differ by {words.points(errors['after'])} on average "
        "(expected calibration error)"
    )
    if temperature is None or temperature == 1:
        return f"{text}. The scores are not temperature-scaled."
    return (
        f"{text}; before temperature scaling (T = {temperature:.2f}), they differed by "
        f"{words.points(errors['before'])}."
    )


def _end(findings: Findings, earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the skipped files, the history, the settings and the data of the page's script."""
    run = findings.run
    skipped = [
        {"path": words.printable(file.path), "reason": file.reason}
        for file in run.skipped[:MAX_LINES]
    ]
    skipped_text = f"{words.count(run.num_skipped, 'file was', 'files were')} skipped."
    if run.num_skipped > MAX_LINES:
        skipped_text += f" The first {MAX_LINES} are shown; skipped.tsv lists all of them."
    this_run = {"time": "this run", **history.entry(findings)}
    path = run.settings.get("corrections")
    return {
        "skipped": skipped,
        "skipped_text": skipped_text,
        "command": run.commands.get("again", ""),
        "cut": words.printable(run.cut),
        "correct_command": "" if path else run.commands.get("correct", ""),
        "comparison_text": comparison_verdict(run.comparison) if run.comparison else "",
        "history": [_history_row(entry) for entry in (*earlier, this_run)],
        "settings": json.dumps(run.settings, indent=2, sort_keys=True, ensure_ascii=False),
        "versions": run.versions,
        "checksums": run.checksums,
        "saved_text": f"Saved, including your earlier corrections. Replace {path} with this file "
        "and run again."
        if path
        else "Saved. Move the file to the folder that you started the run in, and run:",
        "data": {
            "key": f"{run.dataset} {run.backbone}",
            "classes": [name for name in run.predictions.classes if name in run.photos],
            "corrections": {
                correction.sha256: {
                    "label": correction.label,
                    "path": words.printable(correction.path),
                    "note": correction.note,
                }
                for correction in run.corrections
            },
        },
    }


def comparison_verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Says in a sentence or two which candidate is best.

    Args:
        rows: the result of `comparison.compare`, best first.
    """
    best, photos = rows[0], rows[0]["photos"]
    if not photos:
        return "No photo was cross-validated with every candidate, so they cannot be compared."
    streaming = "".join(
        f" {_name(row)} does not fit in the Edge TPU's memory: {words.size(row['streamed_bytes'])} "
        "are sent to it for every image, which is slow."
        for row in rows
        if row.get("streamed_bytes")
    )
    tied = [row for row in rows[1:] if not row["differs"]]
    text = f"On {words.count(photos, 'photo')}, {_name(best)} is the most accurate"
    if not tied:
        return f"{text}; its lead is statistically significant.{streaming}"
    others = words.join([f"{_name(row)} is {_behind(row)}" for row in tied], most=6)
    text += f". Its lead may be chance: {others}."
    fastest = min([best, *tied], key=lambda row: row["milliseconds"])
    if fastest is not best:
        text += f" Of these, {_name(fastest)} is the fastest on the CPU of this machine."
    return text + streaming


def _behind(row: Mapping[str, Any]) -> str:
    return f"{words.points(row['behind'])} behind" if row["behind"] else "equal"


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['backbone']} ({row['recipe']})"


def _history_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    evaluated, correct = entry["judged"], entry["correct"]
    return {
        "time": entry["time"][:16].replace("T", " "),
        "backbone": entry["backbone"],
        "photos": entry["photos"],
        "classes": len(entry["classes"]),
        "corrections": entry["corrections"],
        "accuracy": words.percent(correct, evaluated) if evaluated else "not measured",
        "value": correct / evaluated if evaluated else -1,
    }
