"""Classify photos with any image classifier .tflite, on the CPU or an Edge TPU."""

import argparse
import csv
import json
import os
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import read_class_names, read_label_map
from edgetpu_retrain.io import program
from edgetpu_retrain.photos import decode, preprocessing, walk
from edgetpu_retrain.runtime.interpreter import Interpreter


class Answer(NamedTuple):
    """What a model said of a photo, or why the photo could not be read."""

    path: Path
    # (class, score), the best first.
    classes: list[tuple[str, float]]
    milliseconds: float
    error: str


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="the classifier's .tflite file")
    parser.add_argument("--label", help="its label map (default: the names that the model carries)")
    parser.add_argument(
        "--input", required=True, nargs="+", type=Path, help="photos, or folders of photos"
    )
    parser.add_argument("--top_k", type=int, default=1, help="classes to print (default: 1)")
    parser.add_argument(
        "--threshold", type=float, default=0.0, help="leave out classes with a lower score (0 to 1)"
    )
    parser.add_argument(
        "--precision",
        type=float,
        help="say nothing where fewer photos would be classified correctly: 0.9, 0.95 or 0.99",
    )
    parser.add_argument(
        "--evaluation",
        type=Path,
        help="where the thresholds for --precision are (default: evaluation.json beside the model)",
    )
    parser.add_argument(
        "--csv",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write a table, one line per photo, to FILE or in place of the text",
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
    """Returns the score below which nothing is said of a photo."""
    if arguments.precision is None:
        return arguments.threshold
    path = arguments.evaluation or Path(arguments.model).with_name("evaluation.json")
    try:
        thresholds = json.loads(path.read_text("utf-8"))["thresholds"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path}: --precision needs the evaluation.json of the model. Give its path with "
            "--evaluation."
        ) from None
    scores = {one["precision"]: one["score"] for one in thresholds}
    if arguments.precision not in scores:
        known = ", ".join(map(str, scores))
        raise UserError(f"--precision {arguments.precision}: {path} has thresholds for {known}.")
    if scores[arguments.precision] is None:
        raise UserError(
            f"--precision {arguments.precision}: no score is high enough for it, says {path}."
        )
    return max(arguments.threshold, scores[arguments.precision])


def find_inputs(inputs: list[Path]) -> list[Path]:
    found = []
    for path in inputs:
        if path.is_dir():
            below = [Path(name) for name, _ in walk.find_photos(path)]
            if not below:
                raise UserError(f"{path}: there is no photo in this folder.")
            found += below
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"{path}: there is no such file or folder.")
    return found


def find_labels(arguments: argparse.Namespace, count: int) -> dict[int, str]:
    if arguments.label:
        labels = read_label_map(arguments.label)
        if labels.keys() != set(range(count)):
            raise UserError(
                f"{arguments.label} names {len(labels)} classes, numbered {min(labels, default=0)} "
                f"to {max(labels, default=0)}; {arguments.model} has {count}, from 0. Take the "
                "label file that was made with the model."
            )
        return labels
    names = read_class_names(arguments.model, count)
    if names is None:
        print(f"{arguments.model} carries no names of its classes: give --label.", file=sys.stderr)
    return dict(enumerate(names or [f"class {i}" for i in range(count)]))


def classify(
    paths: Iterable[Path], model: Interpreter, labels: dict[int, str], top_k: int, threshold: float
) -> Iterator[Answer]:
    min_side = preprocessing.min_decoded_side(model.input_size)
    for path in paths:
        try:
            photo = decode.read_file(path, min_side)
        except decode.PhotoError as error:
            yield Answer(path, [], 0, decode.with_advice(path, str(error)))
            continue
        pixels = preprocessing.to_pixels(photo, model.input_size)
        start = time.perf_counter()
        scores = model.scores(pixels)
        milliseconds = 1000 * (time.perf_counter() - start)
        best = [int(i) for i in (-scores).argsort(kind="stable")[:top_k] if scores[i] >= threshold]
        yield Answer(path, [(labels[i], float(scores[i])) for i in best], milliseconds, "")


def with_progress(paths: list[Path], arguments: argparse.Namespace) -> Iterable[Path]:
    """Shows a bar where what is printed does not show by itself how far it is."""
    printing = arguments.csv in (None, "-") and sys.stdout.isatty()
    try:
        from tqdm import tqdm
    except ImportError:
        return paths
    return tqdm(paths, unit="photo", disable=True if printing else None)


def write_text(answers: Iterable[Answer]) -> Iterator[Answer]:
    for answer in answers:
        if not answer.error:
            print(answer.path)
            for name, score in answer.classes:
                print(f"  {name}: {score:.3f}")
            if not answer.classes:
                print("  no class reaches the threshold")
        yield answer


def write_csv(answers: Iterable[Answer], top_k: int, target: str) -> Iterator[Answer]:
    file = sys.stdout if target == "-" else open(target, "w", encoding="utf-8", newline="")  # noqa: SIM115
    numbers = ["", *(f"_{i}" for i in range(2, top_k + 1))]
    header = [f"{column}{number}" for number in numbers for column in ("class", "score")]
    with file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", *header, "milliseconds", "error"])
        for answer in answers:
            cells = [cell for name, score in answer.classes for cell in (name, f"{score:.4f}")]
            cells += [""] * (len(header) - len(cells))
            took = f"{answer.milliseconds:.2f}" if not answer.error else ""
            table.writerow([answer.path, *cells, took, answer.error])
            yield answer


def run(arguments: argparse.Namespace) -> bool:
    """Prints the classes of each photo; returns whether all photos could be read."""
    paths = find_inputs(arguments.input)
    threshold = find_threshold(arguments)
    model = Interpreter(arguments.model, arguments.device)
    labels = find_labels(arguments, model.output_size)
    start = time.perf_counter()
    answers: Iterable[Answer] = classify(
        with_progress(paths, arguments), model, labels, arguments.top_k, threshold
    )
    if arguments.csv:
        answers = write_csv(answers, arguments.top_k, arguments.csv)
    else:
        answers = write_text(answers)
    times, unreadable = [], 0
    for answer in answers:
        if answer.error:
            print(f"{answer.path}: {answer.error}", file=sys.stderr)
            unreadable += 1
        else:
            times.append(answer.milliseconds)
    if times:
        seconds = time.perf_counter() - start
        print(
            f"{len(times)} photos, {statistics.median(times):.1f} milliseconds an image (median) "
            f"on {'the Edge TPU' if model.on_edge_tpu else 'the CPU'}; "
            f"{len(paths) / seconds:.0f} photos a second, decoding included",
            file=sys.stderr,
        )
    if unreadable:
        print(f"{unreadable} of {len(paths)} photos could not be read.", file=sys.stderr)
    return not unreadable


def main() -> None:
    arguments = parse_arguments()
    with program.run():
        try:
            sys.exit(0 if run(arguments) else 1)
        except BrokenPipeError:
            # As behind `| head`; what is still to be flushed has no reader either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)


if __name__ == "__main__":
    main()
