"""The command line of `learn`, in the bundle and on the PC."""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from edgetpu_retrain.deploy import camera
from edgetpu_retrain.deploy.learn import LEARNED, Lesson, learn
from edgetpu_retrain.deploy.stored_embeddings import Results
from edgetpu_retrain.io import files, program

# Classes in the summary; of more, those that changed the most.
_SHOWN = 8
# A camera's pictures until they are learned, in the bundle.
_PICTURES = "camera"


def main(bundle: Path | None, arguments: Sequence[str], name: str = "learn.py") -> None:
    """Runs the command line, and exits with a message if something is wrong.

    Args:
        bundle: the folder of the bundle; None to take it from the arguments.
        arguments: the command line without the program's name.
        name: the program's name.
    """
    parser = argparse.ArgumentParser(
        prog=name, description="Teach the model of a bundle new photos, on this machine."
    )
    if bundle is None:
        parser.add_argument("bundle", type=Path, help="the folder of the bundle")
    parser.add_argument(
        "photos", type=Path, nargs="?", help="a folder with one folder of photos per class"
    )
    parser.add_argument("--camera", help="number of a camera, or address of a stream or video")
    parser.add_argument("--label", help="class of the camera's pictures")
    parser.add_argument("--count", type=int, default=50, help="number of pictures to take (50)")
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, usb, pci, usb:N or pci:N (auto)"
    )
    options = parser.parse_args(arguments)
    bundle = bundle or options.bundle
    if (options.photos is None) == (options.camera is None):
        parser.error("give either a folder of photos, or --camera and --label")
    if (options.camera is None) != (options.label is None):
        parser.error("--camera and --label go together")
    if options.label and (
        options.label.startswith(".") or Path(options.label).name != options.label
    ):
        parser.error(f"--label {options.label!r} cannot be the name of a folder")
    if options.count < 1:
        parser.error("--count must be at least 1")
    with program.printing():
        # What the stages of the workflow say is in the summary.
        logging.getLogger("edgetpu_retrain").setLevel(logging.WARNING)
        logging.getLogger("edgetpu_retrain.deploy").setLevel(logging.INFO)
        photos = options.photos or bundle / _PICTURES
        if options.camera is not None:
            camera.collect(options.camera, photos / options.label, options.count)
        lesson = learn(bundle, photos, options.device, os.cpu_count() or 1)
        if options.camera is not None:
            # Learning has copied them.
            files.remove(photos)
        print("\n".join(summary(lesson, bundle)))


def summary(lesson: Lesson | None, bundle: Path) -> list[str]:
    """Returns the lines that say what was learned and how good the model is now."""
    if lesson is None:
        return ["The model knows all of these photos already, so nothing was changed."]
    photos = _count(lesson.photos, "new photo")
    lines = [f"Learned {photos}{_of_classes(lesson.new_classes)}."]
    if lesson.trained_on < lesson.photos:
        held_out = lesson.photos - lesson.trained_on
        lines[0] += f" {held_out} of them are held out for testing, as in the workflow."
    if lesson.after:
        lines += _table(lesson)
        lines.append("Each photo is judged by a model that was not trained on it.")
    else:
        lines.append(
            f"{lesson.right_after} of {lesson.trained_on} of them are classified correctly, by a "
            "model made from them: other photos will do worse. The other classes are as before, "
            "but photos of them can now be taken for the new class."
        )
    lines.append(
        f"The model in {bundle} is the new one; the old files end in .previous. To test it: "
        "python classify.py --check"
    )
    lines.append(f"The photos are in {bundle / LEARNED}: add them to the dataset on the PC.")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _of_classes(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f", with the new {'class' if len(names) == 1 else 'classes'} {', '.join(names)}"


def _table(lesson: Lesson) -> list[str]:
    """Returns the accuracies before and after, of the same photos but for new classes."""
    before, after = lesson.before, lesson.after
    changes = {name: abs(_accuracy(after[name]) - _accuracy(before.get(name))) for name in after}
    shown = sorted(after)
    if len(shown) > _SHOWN:
        shown = sorted(sorted(shown, key=lambda name: -changes[name])[: _SHOWN - 1])
    known = {name: result for name, result in after.items() if name not in lesson.new_classes}
    rows: list[tuple[str, tuple[int, int] | None, tuple[int, int]]] = [
        ("photos so far", _total(before), _total(known)),
        *((name, before.get(name), after[name]) for name in shown),
        (
            "new photos",
            (lesson.right_before, lesson.trained_on),
            (lesson.right_after, lesson.trained_on),
        ),
    ]
    title = "Classified correctly"
    width = max(len(title), *(len(name) + 2 for name in shown))
    lines = [f"{title:<{width}}  {'before':>16}  {'now':>16}"]
    for name, old, new in rows:
        name = f"  {name}" if name in after else name
        lines.append(f"{name:<{width}}  {_cell(old):>16}  {_cell(new):>16}")
    if len(after) > len(shown):
        lines.insert(-1, f"  and {len(after) - len(shown)} more classes, which changed less")
    return lines


def _total(results: Results) -> tuple[int, int]:
    return sum(right for right, _ in results.values()), sum(n for _, n in results.values())


def _accuracy(result: tuple[int, int] | None) -> float:
    return result[0] / result[1] if result and result[1] else 0.0


def _cell(result: tuple[int, int] | None) -> str:
    if not result or not result[1]:
        return "-"
    return f"{_accuracy(result):.1%} of {result[1]}"
