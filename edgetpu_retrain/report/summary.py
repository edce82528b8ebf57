"""Writes the summary that ends a run: where the files are, the accuracy and the next step."""

from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgetpu_retrain.evaluation import saved
from edgetpu_retrain.index import manifest
from edgetpu_retrain.io import files
from edgetpu_retrain.report import fine_tuning, none_section, words
from edgetpu_retrain.training import pseudo_labels

_MAX_NAMES = 5
_FEW_TEST_PHOTOS = 5
_KINDS = {
    "retrained_model_edgetpu.tflite": "the classifier for the Edge TPU",
    "retrained_model.tflite": "the classifier for the CPU",
    "label_map.txt": "the names of the classes",
    "bundle": "the folder to copy to a device, with README.md",
    "bundle.zip": "the same folder, zipped",
    "report.html": "how good the model is and what to do next; open it in a browser",
}


class _Check(BaseModel):
    accuracy: float | None
    float_accuracy: float | None
    photos: int


class _Quantization(BaseModel):
    """What the summary reads of quantization.json."""

    check: _Check | None
    warnings: list[str]


def summary(
    delivered: Sequence[str | Path],
    evaluation: str | Path,
    skipped: str | Path,
    confusion_matrix: str | Path | None,
    report: str | Path | None = None,
    quantization: str | Path | None = None,
    fine_tuning_json: str | Path | None = None,
    *,
    classify: Callable[[str], str],
    bundle: str | None = None,
    removed: Sequence[str] = (),
) -> str:
    """Returns the summary of a run, a few lines of text.

    Args:
        delivered: paths of the files that the run delivered, with or without a model.
        evaluation: path of evaluation.json.
        skipped: path of skipped.tsv.
        confusion_matrix: path of confusion_matrix.png; None if it was not made.
        report: path of report.html; None if it was not made.
        quantization: path of quantization.json; None if no network was quantized.
        fine_tuning_json: path of fine_tuning.json; None if no network was fine-tuned.
        classify: function that returns the command that classifies other photos with a model.
        bundle: the command that makes the bundle; None if this run made it.
        removed: files of another model that this run removed from the top-level folder.

    Raises:
        UserError: a file is damaged.
    """
    content = saved.read(evaluation)
    models = [path for path in delivered if Path(path).suffix == ".tflite"] or [content["model"]]
    lines = [_describe(path) for path in [*models, *(p for p in delivered if p not in models)]]
    test, cross_validation = content["test"], content["cross_validation"]
    lines += accuracy(test, "test photo", f", run on {content['device']}")
    lines += accuracy(content["test_dataset"], "photo", " of the test dataset")
    lines += accuracy(cross_validation, "photo", " in cross-validation")
    # Cross-validation covers more photos, so its results per class are more reliable.
    lines += weakest(cross_validation or test)
    none = content.get("none")
    lines += undertested(test, none["known"] if none else None)
    if none:
        texts = none_section.known_text(none), none_section.strangers_text(none)
        lines.append(f"Class none: {' '.join(texts).strip()}")
    if taught := content.get("pseudo_labels"):
        lines.append(pseudo_labels.describe(taught))
    if quantization is not None:
        lines += quantized(quantization)
    if fine_tuning_json is not None:
        lines.append(fine_tuning.describe(fine_tuning.read(fine_tuning_json)))
        if nested := content.get("nested"):
            lines.append(fine_tuning.describe_nested(nested))
    if confusion_matrix is not None:
        lines.append(f"Confusion matrix: {confusion_matrix}")
    if report is not None and all(Path(path).name != Path(report).name for path in delivered):
        lines.append(f"Report, to open in a browser: {report}")
    if count := sum(1 for _ in manifest.read_skipped(skipped)):
        were = words.count(count, "file was", "files were")
        lines.append(f"{were} skipped; {skipped} lists the reason{'' if count == 1 else 's'}.")
    if removed:
        lines.append(f"Removed, because they belonged to another model: {_shorten(removed)}")
    # The CPU model is preferred, because every machine can run it.
    model = min(map(str, models), key=lambda path: "_edgetpu" in path)
    lines += ["To try the model on other photos:", f"  {classify(model)}"]
    if bundle is not None:
        lines += ["To make a folder for a device, with a program that runs it:", f"  {bundle}"]
    return "\n".join(lines)


def _describe(path: str | Path) -> str:
    path = Path(path)
    kind = "the folder for Frigate, with config.yml" if path.parent.name == "frigate" else None
    kind = _KINDS.get(path.name, kind)
    if path.is_dir():
        return f"{path}/ ({kind})"
    return f"{path} ({f'{kind}, ' if kind else ''}{path.stat().st_size:,} bytes)"


def accuracy(result: Mapping[str, Any] | None, noun: str, where: str) -> list[str]:
    """Returns a line with the accuracy and its 95% interval; none without a result.

    Args:
        result: the part of evaluation.json for these photos.
        noun: what one of these photos is called.
        where: follows the number of photos, with its own punctuation.
    """
    if result is None:
        return []
    low, high = result["interval"]
    return [
        f"Accuracy: {result['accuracy']:.1%} on {words.count(result['photos'], noun)}{where} "
        f"(95% interval {low:.1%} to {high:.1%})"
    ]


def weakest(result: Mapping[str, Any] | None) -> list[str]:
    """Returns a line with the classes that have the lowest recall; none without mistakes.

    At most half of the classes are called weakest.
    """
    classes = result["classes"] if result else {}
    imperfect = [(entry["correct"] / entry["photos"], name) for name, entry in classes.items()
                 if entry["correct"] < entry["photos"]]  # fmt: skip
    shown = [
        f"{name} ({classes[name]['correct']} of {classes[name]['photos']})"
        for _, name in sorted(imperfect)[: min(_MAX_NAMES, max(1, len(classes) // 2))]
    ]
    classes_text = "class" if len(shown) == 1 else "classes"
    return [f"Weakest {classes_text}: {', '.join(shown)}"] if shown else []


def quantized(path: str | Path) -> list[str]:
    """Returns a line that says what quantizing a float network cost, and one per warning.

    Args:
        path: path of quantization.json.
    """
    content = files.read_json(path, _Quantization)
    check, lines = content["check"], []
    if check is not None and check["accuracy"] is not None:
        lines = [
            f"Quantization: a linear classifier on the embeddings reaches {check['accuracy']:.1%}, "
            f"compared with {check['float_accuracy']:.1%} before quantization "
            f"({words.count(check['photos'], 'photo')}); see {path}"
        ]
    return lines + [f"Warning: {text}" for text in content["warnings"]]


def undertested(
    result: Mapping[str, Any] | None, wanted: Container[str] | None = None
) -> list[str]:
    """Returns a line with the classes that have too few test photos; none without such classes.

    Args:
        result: the part of evaluation.json for the test photos.
        wanted: the classes that should have test photos; None for all.
    """
    classes = result["classes"] if result else {}
    few = sorted(
        (entry["photos"], name)
        for name, entry in classes.items()
        if entry["photos"] < _FEW_TEST_PHOTOS and (wanted is None or name in wanted)
    )
    names = _shorten([f"{name} ({photos})" for photos, name in few])
    return [f"Classes with fewer than {_FEW_TEST_PHOTOS} test photos: {names}"] if few else []


def _shorten(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
