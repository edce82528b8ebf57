"""Print the catalogue of backbones as a table."""

from pathlib import Path

import yaml
from tabulate import tabulate

CATALOGUE = Path(__file__).parent.parent / "workflow" / "backbones.yaml"
HEADERS = ["backbone", "image", "embedding", "parameters", "compiler", "when to choose it"]


def main() -> None:
    rows = [
        [
            name,
            f"{entry['input_size']} px",
            entry.get("width", "?"),
            f"{entry['parameters']:.1f} M",
            "no" if "compiled" in entry else "yes",
            entry["description"],
        ]
        for name, entry in yaml.safe_load(CATALOGUE.read_text()).items()
    ]
    print(tabulate(rows, HEADERS, tablefmt="simple", colalign=("left", *["right"] * 3)))


if __name__ == "__main__":
    main()
