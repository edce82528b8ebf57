"""Checks that the pinned packages can be installed on 64-bit ARM, as on a Raspberry Pi.

    python .github/check_arm_wheels.py

For every package in requirements.txt, it asks the registry that pip is configured with for a wheel
of the pinned version for Linux on aarch64, for each version of Python. Packages that are published
as source only are named too; they must be in SOURCE_ONLY, the list of those that need no compiler.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
# Those of Raspberry Pi OS bookworm and trixie.
PYTHONS = ("3.11", "3.13")
# Raspberry Pi OS bookworm has glibc 2.36.
GLIBCS = range(17, 37)
SOURCE_ONLY = {"connection-pool"}


def pins(python: str) -> list[Requirement]:
    """Returns the packages that a Raspberry Pi with this Python installs, at most."""
    environment = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": "aarch64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    requirements = map(Requirement, lines)
    return [one for one in requirements if one.marker is None or one.marker.evaluate(environment)]


def find_problem(names: list[str], python: str) -> str:
    """Returns what pip says if there is no wheel of one of these; "" if there are all."""
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in GLIBCS]
    platforms += ["--platform=manylinux2014_aarch64", "--platform=linux_aarch64"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet"]
        command += ["--target", folder, "--only-binary=:all:", "--python-version", python]
        # Reads what it needs of a wheel, instead of downloading all of it.
        command += ["--use-feature=fast-deps", "--disable-pip-version-check"]
        done = subprocess.run([*command, *platforms, *names], capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return "" if not done.returncode else "\n".join(errors) or done.stderr


def main() -> int:
    """Prints the packages without wheels; returns the exit code."""
    missing = 0
    for python in PYTHONS:
        names = [f"{one.name}{one.specifier}" for one in pins(python)]
        wanted = [name for name in names if name.partition("==")[0] not in SOURCE_ONLY]
        # One by one only if not all are there, because that takes longer.
        bad = {}
        if find_problem(wanted, python):
            problems = {name: find_problem([name], python) for name in wanted}
            bad = {name: problem for name, problem in problems.items() if problem}
        for name, problem in bad.items():
            print(f"Python {python}: no wheel of {name} for aarch64\n{problem}")
        print(f"Python {python}: {len(wanted) - len(bad)} of {len(wanted)} packages have wheels")
        missing += len(bad)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
