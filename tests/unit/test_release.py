"""What is published with a release, and what is said about it in several files."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from tests.conftest import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
FORMS = sorted(ROOT.glob(".github/**/*.yml")) + sorted(ROOT.glob(".*.y*ml"))


def release_notes(tag: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / ".github/release_notes.py", tag]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_version_and_its_date_are_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == VERSION
    changelog = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\](?: - (.+))?$", changelog, re.MULTILINE)
    assert headings[:2] == [("Unreleased", ""), (VERSION, citation["date-released"])]
    links = re.findall(r"^\[Unreleased\]: .+/compare/v(.+)\.\.\.HEAD$", changelog, re.MULTILINE)
    assert links == [VERSION]


def test_release_notes_are_the_section_of_the_version():
    done = release_notes(f"v{VERSION}")
    assert done.returncode == 0, done.stderr
    changelog = (ROOT / "CHANGELOG.md").read_text()
    section = changelog.partition(f"## [{VERSION}]")[2].partition("\n## ")[0]
    assert done.stdout.split() == section.split()[2:]
    # GitHub would show a line break inside of an entry.
    assert all(line[0] in "-#" for line in done.stdout.splitlines()[1:] if line)


def test_a_tag_of_another_version_is_not_released():
    done = release_notes("v0.0.9")
    assert done.returncode != 0
    assert done.stderr == f"The tag is v0.0.9, but the version in pyproject.toml is {VERSION}.\n"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_what_github_reads_can_be_read(path):
    assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict)


def test_the_project_has_one_address():
    """Whoever puts the real owner in place of OWNER has forgotten none."""
    files = [path for path in ROOT.iterdir() if path.is_file()]
    files += [path for name in (".github", "docs") for path in (ROOT / name).rglob("*")]
    owners = {
        owner
        for path in files
        if path.suffix in (".md", ".yml", ".yaml", ".toml", ".cff")
        for owner in re.findall(r"github\.com/([^/\s]+)/edgetpu-retrain\b", path.read_text("utf-8"))
    }
    assert len(owners) == 1
