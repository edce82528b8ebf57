"""What a run ends with: where the model is, how good it is, and what to do next."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgetpu_retrain.index import manifest
from edgetpu_retrain.io import files

_SHOWN = 5
_FEW_TEST_PHOTOS = 5
_KINDS = {
    "retrained_model_edgetpu.tflite": "the classifier for the Edge TPU",
    "retrained_model.tflite": "the classifier for the CPU",
    "label_map.txt": "its classes",
    "bundle": "the folder for a device, with README.md",
    "bundle.zip": "the same, packed",
    "report.html": "how good it is and what to do next; open it in a browser",
}


def summary(
    delivered: Sequence[str | Path],
    evaluation: str | Path,
    skipped: str | Path,
    confusion_matrix: str | Path | None,
    report: str | Path | None = None,
    quantization: str | Path | None = None,
    *,
    classify: Callable[[str], str],
    bundle: str | None = None,
    removed: Sequence[str] = (),
) -> str:
    """Says in a few lines what came of a run.

    Args:
        delivered: paths of the files that the run was asked for, the model among them or not.
        evaluation: path of evaluation.json.
        skipped: path of skipped.tsv.
        confusion_matrix: path of the picture; None where the run did not make it.
        report: path of the page; None where the run did not make it.
        quantization: path of quantization.json; None where nothing was quantized.
        classify: function that returns the command that classifies other photos with a model.
        bundle: the command that makes the bundle; None if this run made it.
        removed: files of another model that this run removed from the top-level folder.
    """
    content = files.read_json(evaluation)
    models = [path for path in delivered if Path(path).suffix == ".tflite"] or [content["model"]]
    lines = [_file(path) for path in [*models, *(p for p in delivered if p not in models)]]
    test, cross_validation = content["test"], content["cross_validation"]
    lines += accuracy(test, f"test photos, on {content['device']}")
    lines += accuracy(content["test_dataset"], "photos of the test dataset")
    lines += accuracy(cross_validation, "photos, cross-validated")
    # There are more photos in the cross-validation, so its figures per class say more.
    lines += weakest(cross_validation or test) + hardly_tested(test)
    if quantization is not None:
        lines += quantized(quantization)
    if confusion_matrix is not None:
        lines.append(f"The confusion matrix as a picture: {confusion_matrix}")
    if report is not None and all(Path(path).name != Path(report).name for path in delivered):
        lines.append(f"What to do next, as a page to open in a browser: {report}")
    if count := sum(1 for _ in manifest.read_skipped(skipped)):
        photos = "photo was" if count == 1 else "photos were"
        lines.append(f"{count} {photos} skipped; {skipped} lists them with the reasons.")
    if removed:
        lines.append(f"Removed, because they belonged to another model: {_some(removed)}")
    # Every machine can run the model for the CPU.
    model = min(map(str, models), key=lambda path: "_edgetpu" in path)
    lines += ["Next, try it on other photos:", f"  {classify(model)}"]
    if bundle is not None:
        lines += ["To make the folder for a device, with a program that runs it:", f"  {bundle}"]
    return "\n".join(lines)


def _file(path: str | Path) -> str:
    path = Path(path)
    kind = "the folder for Frigate, with config.yml" if path.parent.name == "frigate" else None
    kind = _KINDS.get(path.name, kind)
    if path.is_dir():
        return f"{path}/ ({kind})"
    return f"{path} ({f'{kind}, ' if kind else ''}{path.stat().st_size:,} bytes)"


def accuracy(result: Mapping[str, Any] | None, what: str) -> list[str]:
    """Says in a line how many photos were classified correctly.

    Args:
        result: what evaluation.json holds of these photos; without it there is no line.
        what: says in the plural what photos these are.
    """
    if result is None:
        return []
    low, high = result["interval"]
    return [
        f"Accuracy: {result['accuracy']:.1%} of {result['photos']} {what} "
        f"(95 % interval {low:.1%} to {high:.1%})"
    ]


def weakest(result: Mapping[str, Any] | None) -> list[str]:
    """Names in a line the classes of which the smallest share was classified correctly."""
    classes = result["classes"] if result else {}
    wrong = [(one["correct"] / one["photos"], name) for name, one in classes.items()
             if one["correct"] < one["photos"]]  # fmt: skip
    shown = [
        f"{name} ({classes[name]['correct']} of {classes[name]['photos']})"
        for _, name in sorted(wrong)[:_SHOWN]
    ]
    return [f"Weakest classes: {', '.join(shown)}"] if wrong else []


def quantized(path: str | Path) -> list[str]:
    """Says in a line what quantizing a float network cost, and what is wrong with it.

    Args:
        path: of quantization.json.
    """
    content = files.read_json(path)
    check, lines = content["check"], []
    if check is not None and check["accuracy"] is not None:
        lines = [
            f"Quantized: a linear layer on its embeddings is correct on {check['accuracy']:.1%}, "
            f"on {check['float_accuracy']:.1%} before ({check['photos']} photos); see {path}"
        ]
    return lines + [f"Warning: {text}" for text in content["warnings"]]


def hardly_tested(result: Mapping[str, Any] | None) -> list[str]:
    """Names in a line the classes with few test photos, of which the accuracy says little."""
    classes = result["classes"] if result else {}
    few = sorted(
        (one["photos"], name) for name, one in classes.items() if one["photos"] < _FEW_TEST_PHOTOS
    )
    named = _some([f"{name} ({photos})" for photos, name in few])
    return [f"Classes with fewer than {_FEW_TEST_PHOTOS} test photos: {named}"] if few else []


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
