"""Print the catalogue of backbones as a table, or which of them know classes by name."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from edgetpu_retrain.backbone import known_classes
from edgetpu_retrain.backbone.sources import Source
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import read_label_map
from edgetpu_retrain.io import download, program

WORKFLOW = Path(__file__).parent.parent
HEADERS = [
    "backbone",
    "image",
    "embedding",
    "parameters",
    "compiler",
    "ImageNet",
    "Edge TPU",
    "when to choose it",
]
NOTE = (
    "ImageNet: top-1 accuracy of the original network; Edge TPU: inference time with a USB "
    "Accelerator on a PC.\nBoth as published (sources: workflow/backbones.yaml), not measured here."
)
ADVICE = (
    "To find out if a network is better for your photos, add it to compare in config.yaml; see "
    "docs/how-to/backbone.md. Reports that are made from now on name it, too."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--for",
        dest="classes",
        nargs="+",
        metavar="CLASS",
        help="say which backbones know these classes by name; a label_map.txt stands for the "
        "classes in it. Downloads lists of labels once, 160 kB in all.",
    )
    classes = parser.parse_args().classes
    with program.printing():
        catalogue = yaml.safe_load((WORKFLOW / "workflow" / "backbones.yaml").read_text("utf-8"))
        if classes:
            show_known(catalogue, list(read_classes(classes)))
        else:
            show_table(catalogue)


def read_classes(arguments: Sequence[str]) -> Iterator[str]:
    for argument in arguments:
        if Path(argument).is_file():
            yield from read_label_map(argument).values()
        elif argument.endswith(".txt"):
            raise UserError(f"There is no file {argument}.")
        else:
            yield argument


def show_known(catalogue: dict[str, Any], classes: Sequence[str]) -> None:
    paths, failures = {}, []
    for name, entry in catalogue.items():
        if "labels" not in entry:
            continue
        paths[name] = known_classes.labels_path(WORKFLOW, name)
        if not paths[name].is_file():
            try:
                download.fetch(
                    output=paths[name],
                    check=known_classes.check_labels,
                    **Source.model_validate(entry["labels"]).request(),
                )
            except download.DownloadError as error:
                failures.append(str(error))
                del paths[name]
    known = known_classes.find_known(classes, paths)
    for name in [*known, *(name for name in paths if name not in known)]:
        number = len(known.get(name, ()))
        listed = f": {', '.join(known[name])}" if number else ""
        print(f"{name} knows {number or 'none'} of {len(classes)} by name{listed}.")
    if known:
        print(f"\n{ADVICE}")
    if failures:
        raise UserError("\n".join(failures))


def show_table(catalogue: dict[str, Any]) -> None:
    rows = [
        [
            name,
            f"{entry['input_size']} px",
            entry.get("width", "?"),
            f"{entry['parameters']:.1f} M",
            "no" if "compiled" in entry else "yes",
            f"{entry['imagenet_top1']:.1f} %" if "imagenet_top1" in entry else "?",
            f"{entry['edgetpu_ms']:.1f} ms" if "edgetpu_ms" in entry else "?",
            entry["description"],
        ]
        for name, entry in catalogue.items()
    ]
    align = ("left", *["right"] * 3, "left", *["right"] * 2)
    print(tabulate(rows, HEADERS, tablefmt="simple", colalign=align))
    print(f"\n{NOTE}")


if __name__ == "__main__":
    main()
