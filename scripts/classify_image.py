"""Classify photos with any image classifier .tflite, on the CPU or an Edge TPU."""

import argparse
import sys
from pathlib import Path

from edgetpu_retrain import job, photos, preprocessing
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import read_label_map
from edgetpu_retrain.interpreter import Interpreter
from edgetpu_retrain.tflite.metadata import read_class_names


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="the classifier's .tflite file")
    parser.add_argument("--label", help="its label map (default: the names that the model carries)")
    parser.add_argument(
        "--input", required=True, nargs="+", type=Path, help="photos, or folders of photos"
    )
    parser.add_argument("--top_k", type=int, default=1, help="classes to print (default: 1)")
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, usb, pci, usb:N or pci:N (default: auto)"
    )
    arguments = parser.parse_args()
    if arguments.top_k < 1:
        parser.error("--top_k must be at least 1")
    return arguments


def find_inputs(inputs: list[Path]) -> list[Path]:
    found = []
    for path in inputs:
        if path.is_dir():
            below = [Path(name) for name, _ in photos.find_photos(path)]
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
        return read_label_map(arguments.label)
    names = read_class_names(arguments.model, count)
    if names is None:
        print(f"{arguments.model} carries no names of its classes: give --label.", file=sys.stderr)
    return dict(enumerate(names or ()))


def classify(arguments: argparse.Namespace) -> bool:
    """Prints the classes of each photo; returns whether all photos could be read."""
    paths = find_inputs(arguments.input)
    model = Interpreter(arguments.model, arguments.device)
    labels = find_labels(arguments, model.output_size)
    at_least = preprocessing.decoded_at_least(model.input_size)
    all_read = True
    for path in paths:
        try:
            photo = photos.read_photo(path.read_bytes(), at_least)
        except photos.PhotoError as error:
            print(f"{path}: {photos.advice(path, str(error))}", file=sys.stderr)
            all_read = False
            continue
        scores = model.scores(preprocessing.to_pixels(photo, model.input_size))
        print(path)
        for i in (-scores).argsort(kind="stable")[: arguments.top_k]:
            print(f"  {labels.get(int(i), f'class {i}')}: {scores[i]:.3f}")
    return all_read


def main() -> None:
    arguments = parse_arguments()
    with job.run():
        sys.exit(0 if classify(arguments) else 1)


if __name__ == "__main__":
    main()
