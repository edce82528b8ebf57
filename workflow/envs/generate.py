"""Writes the environments of the rules, as pyproject.toml and requirements.txt have them."""

import argparse
import re
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
# Environment -> the extras of pyproject.toml that are in it.
ENVIRONMENTS = {
    "retrain": ("workflow", "quantize", "report"),
    "tensorflow": ("workflow", "tensorflow"),
}
# Snakemake runs jobs, no job runs Snakemake.
NOT_IN_JOBS = {"snakemake"}
HEADER = """\
# Made by `make lock`.
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.12
  - pip
  - pip:
"""


def split_requirement(line: str) -> tuple[str, str]:
    """Returns a requirement's name in lower case and its marker, which may be empty.

    >>> split_requirement("NumPy>=1.26; sys_platform == 'linux'")
    ('numpy', "sys_platform == 'linux'")
    """
    name = re.match(r"[\w.-]+", line)
    assert name is not None
    return name[0].lower(), line.partition(";")[2].strip()


def environment(extras: tuple[str, ...]) -> str:
    """Returns the file of an environment that holds the library's needs and those of extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [
        line for extra in extras for line in project["optional-dependencies"][extra]
    ]
    wanted = dict(split_requirement(line) for line in lines)
    pins = (line.partition(";")[0].strip() for line in (ROOT / "requirements.txt").open())
    versions = dict(pin.lower().split("==") for pin in pins if pin)
    text = HEADER
    for name in sorted(wanted.keys() - NOT_IN_JOBS):
        marker = f"; {wanted[name]}" if wanted[name] else ""
        text += f"      - {name}=={versions[name]}{marker}\n"
    return text


def main() -> None:
    """Writes them into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE, help="the folder they go to")
    output = parser.parse_args().output
    for name, extras in ENVIRONMENTS.items():
        (output / f"{name}.yaml").write_text(environment(extras))


if __name__ == "__main__":
    main()
