"""Print the catalogue of backbones as a table."""

from pathlib import Path

import yaml
from tabulate import tabulate

from edgetpu_retrain.io import program

CATALOGUE = Path(__file__).parent.parent / "workflow" / "backbones.yaml"
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


def main() -> None:
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
        for name, entry in yaml.safe_load(CATALOGUE.read_text()).items()
    ]
    align = ("left", *["right"] * 3, "left", *["right"] * 2)
    with program.printing():
        print(tabulate(rows, HEADERS, tablefmt="simple", colalign=align))
        print(f"\n{NOTE}")


if __name__ == "__main__":
    main()
