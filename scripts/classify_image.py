"""Classify photos with a .tflite image classifier, on the CPU or an Edge TPU."""

import argparse
import contextlib
import csv
import filecmp
import io
import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import read_class_names, read_label_map, read_resize
from edgetpu_retrain.io import program, tables
from edgetpu_retrain.photos import decode, preprocessing, walk
from edgetpu_retrain.runtime.interpreter import Interpreter


class Prediction(NamedTuple):
    """The prediction for a photo, or why the photo could not be read.

    Attributes:
        path: path of the photo.
        classes: (class name, score), best first.
        milliseconds: inference time.
        error: why the photo could not be read; "" if it could.
    """

    path: Path
    classes: list[tuple[str, float]]
    milliseconds: float
    error: str


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="the .tflite classifier")
    parser.add_argument("--label", help="its label map (default: the class names in the model)")
    parser.add_argument(
        "--input", required=True, nargs="+", type=Path, help="photos, or folders of photos"
    )
    parser.add_argument("--top_k", type=int, default=1, help="classes to print (default: 1)")
    parser.add_argument(
        "--threshold", type=float, default=0.0, help="omit classes with a lower score (0 to 1)"
    )
    parser.add_argument(
        "--precision",
        type=float,
        help="abstain on ambiguous photos to reach this precision: 0.9, 0.95 or 0.99",
    )
    parser.add_argument(
        "--evaluation",
        type=Path,
        help="thresholds for --precision (default: the one of the run that made the model)",
    )
    parser.add_argument(
        "--csv",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write a table with one line per photo to FILE, or to standard output without FILE",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, usb, pci, usb:N or pci:N (default: auto)"
    )
    arguments = parser.parse_args()
    if arguments.top_k < 1:
        parser.error("--top_k must be at least 1")
    if not 0 <= arguments.threshold <= 1:
        parser.error("--threshold must be between 0 and 1")
    return arguments


def find_threshold(arguments: argparse.Namespace) -> float:
    """Returns the score below which classes are omitted."""
    if arguments.precision is None:
        return float(arguments.threshold)
    path = arguments.evaluation or find_evaluation(Path(arguments.model))
    try:
        scores = {
            float(row["precision"]): None if row["score"] is None else float(row["score"])
            for row in json.loads(path.read_text("utf-8"))["thresholds"]
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"--precision needs the evaluation.json of the model, but {path} is missing or not "
            "one. Give its path with --evaluation."
        ) from None
    if arguments.precision not in scores:
        available = ", ".join(map(str, scores))
        raise UserError(
            f"--precision {arguments.precision}: {path} only has thresholds for {available}."
        )
    score = scores[arguments.precision]
    if score is None:
        raise UserError(
            f"--precision {arguments.precision}: {path} has no threshold that reaches it."
        )
    threshold = max(float(arguments.threshold), score)
    print(f"Abstaining below a score of {threshold:.3f} ({path})", file=sys.stderr)
    return threshold


def find_evaluation(model: Path) -> Path:
    """Returns the path of a model's evaluation.json, also for a copy in the top-level folder."""
    for original in sorted(model.parent.glob(f"results/*/*/*/{model.name}")):
        if filecmp.cmp(original, model, shallow=False):
            return original.with_name("evaluation.json")
    return model.with_name("evaluation.json")


def find_photos(inputs: list[Path]) -> list[Path]:
    photos = []
    for path in inputs:
        if path.is_dir():
            in_folder = [Path(name) for name, _ in walk.find_photos(path)]
            if not in_folder:
                raise UserError(f"The folder {path} contains no photos.")
            photos += in_folder
        elif path.is_file():
            photos.append(path)
        else:
            raise UserError(f"{path} does not exist.")
    return photos


def find_labels(arguments: argparse.Namespace, count: int) -> dict[int, str]:
    if arguments.label:
        labels = read_label_map(arguments.label)
        if labels.keys() != set(range(count)):
            raise UserError(
                f"{arguments.label} does not fit the model: it has {len(labels)} classes, numbered "
                f"{min(labels, default=0)} to {max(labels, default=0)}; {arguments.model} has "
                f"{count}, numbered from 0. Use the label map that was made with the model."
            )
        return labels
    names = read_class_names(arguments.model, count)
    if names is None:
        print(
            f"{arguments.model} has no class names. Give its label map with --label.",
            file=sys.stderr,
        )
    return dict(enumerate(names or [f"class {i}" for i in range(count)]))


def classify(
    paths: Iterable[Path],
    model: Interpreter,
    resize: str,
    labels: dict[int, str],
    top_k: int,
    threshold: float,
) -> Iterator[Prediction]:
    min_side = preprocessing.min_decoded_side(model.input_size, resize)
    for path in paths:
        try:
            photo = decode.read_file(path, min_side)
        except decode.PhotoError as error:
            yield Prediction(path, [], 0, decode.with_advice(path, str(error)))
            continue
        pixels = preprocessing.to_pixels(photo, model.input_size, resize)
        start = time.perf_counter()
        scores = model.scores(pixels)
        milliseconds = 1000 * (time.perf_counter() - start)
        best = [int(i) for i in (-scores).argsort(kind="stable")[:top_k] if scores[i] >= threshold]
        yield Prediction(path, [(labels[i], float(scores[i])) for i in best], milliseconds, "")


def with_progress(paths: list[Path], arguments: argparse.Namespace) -> Iterable[Path]:
    """Shows a progress bar unless results are printed to the terminal."""
    is_printing = arguments.csv in (None, "-") and sys.stdout.isatty()
    try:
        from tqdm import tqdm
    except ImportError:
        return paths
    bar: Iterable[Path] = tqdm(paths, unit="photo", disable=True if is_printing else None)
    return bar


def write_text(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    for prediction in predictions:
        if not prediction.error:
            print(prediction.path)
            for name, score in prediction.classes:
                print(f"  {name}: {score:.3f}")
            if not prediction.classes:
                print("  no class reaches the threshold")
        yield prediction


def write_csv(predictions: Iterable[Prediction], top_k: int, target: str) -> Iterator[Prediction]:
    opened: contextlib.AbstractContextManager[TextIO] = contextlib.nullcontext(sys.stdout)
    if target != "-":
        opened = open(target, "w", encoding="utf-8", errors="surrogateescape", newline="")  # noqa: SIM115
    suffixes = ["", *(f"_{i}" for i in range(2, top_k + 1))]
    header = [f"{column}{suffix}" for suffix in suffixes for column in ("class", "score")]
    with opened as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", *header, "milliseconds", "error"])
        for prediction in predictions:
            cells = [cell for name, score in prediction.classes for cell in (name, f"{score:.4f}")]
            cells += [""] * (len(header) - len(cells))
            milliseconds = f"{prediction.milliseconds:.2f}" if not prediction.error else ""
            row = [str(prediction.path), *cells, milliseconds, prediction.error]
            table.writerow([tables.protect(cell) for cell in row])
            yield prediction


def run(arguments: argparse.Namespace) -> bool:
    """Prints the predicted classes of every photo; returns whether all photos could be read."""
    paths = find_photos(arguments.input)
    threshold = find_threshold(arguments)
    model = Interpreter(arguments.model, arguments.device)
    model.check_classifier(arguments.model)
    labels = find_labels(arguments, model.output_size)
    start = time.perf_counter()
    predictions: Iterable[Prediction] = classify(
        with_progress(paths, arguments),
        model,
        read_resize(arguments.model),
        labels,
        arguments.top_k,
        threshold,
    )
    if arguments.csv:
        predictions = write_csv(predictions, arguments.top_k, arguments.csv)
    else:
        predictions = write_text(predictions)
    times, unreadable = [], 0
    for prediction in predictions:
        if prediction.error:
            print(f"{prediction.path}: {prediction.error}", file=sys.stderr)
            unreadable += 1
        else:
            times.append(prediction.milliseconds)
    if times:
        seconds = time.perf_counter() - start
        print(
            f"{len(times)} {'photo' if len(times) == 1 else 'photos'}, "
            f"{statistics.median(times):.1f} milliseconds per image (median) "
            f"on {'the Edge TPU' if model.on_edge_tpu else 'the CPU'}; "
            f"{len(paths) / seconds:.0f} photos per second including decoding",
            file=sys.stderr,
        )
    if unreadable:
        photos = "photo" if len(paths) == 1 else "photos"
        print(f"{unreadable} of {len(paths)} {photos} could not be read.", file=sys.stderr)
    return not unreadable


def main() -> None:
    arguments = parse_arguments()
    # Names of files may contain bytes that are not valid UTF-8.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")
    with program.printing():
        sys.exit(0 if run(arguments) else 1)


if __name__ == "__main__":
    main()
