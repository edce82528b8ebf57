"""Prints what CHANGELOG.md says of a version, as the text of its release on GitHub.

python .github/release_notes.py TAG
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(tag: str) -> None:
    """Prints the section, or ends with what is wrong with the tag."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    if tag != f"v{version}":
        sys.exit(f"The tag is {tag}, but the version in pyproject.toml is {version}.")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n"
    end = r"(?=^## |^\[\S+\]: |\Z)"
    section = re.search(f"{heading}(.+?){end}", changelog, re.DOTALL | re.MULTILINE)
    if section is None:
        sys.exit(f"CHANGELOG.md has no section for {version}.")
    # GitHub shows every line break of this text, so each entry becomes one line.
    print(re.sub(r"\n(?![\n#-]) *", " ", section[1].strip()))


if __name__ == "__main__":
    main(sys.argv[1])
