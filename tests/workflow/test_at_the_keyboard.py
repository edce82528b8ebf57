"""What a person types, is asked and reads."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, copy_project, run_snakemake

SAMPLE = ("dataset=sample", "backbone=sample", "device=cpu", "compiler={sources: []}", "shards=1")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("my photos"))


def type_in(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a line in a shell in which no environment is active."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_what_the_summary_prints_can_be_typed(project: Path, tmp_path: Path):
    work = tmp_path / "my work"
    work.mkdir()
    arguments = ("--snakefile", str(project / "Snakefile"), "--directory", str(work))
    profile = ("--workflow-profile", str(project / "profiles/default"))
    done = run_snakemake(
        project, *arguments, *profile, "--config", *SAMPLE, "--", "retrained_model.tflite"
    )
    assert done.returncode == 0, done.stderr
    classify, bundle = re.findall(r"^  (.*)$", done.stdout, re.MULTILINE)
    photo = next((work / "resources/datasets/sample").glob("**/*.jpg"))
    found = type_in(classify.replace("PHOTO_OR_FOLDER", f"'{photo}'"), project)
    assert found.returncode == 0, found.stderr
    assert photo.name in found.stdout
    dry = type_in(bundle.replace(" -- ", " --dry-run -- "), project)
    assert dry.returncode == 0, dry.stderr
    # The same photos and settings: nothing but the bundle is left to do.
    assert re.findall(r"^\w*rule (\w+):", dry.stdout + dry.stderr, re.MULTILINE) == ["bundle"]


def test_what_another_run_had_delivered_is_said_to_be_removed(project: Path):
    done = run_snakemake(project, "--config", *SAMPLE, "--", "bundle")
    assert done.returncode == 0, done.stderr
    assert "Removed" not in done.stdout
    coral = (*SAMPLE, "training={recipe: coral}")
    done = run_snakemake(project, "--config", *coral, "--", "retrained_model.tflite")
    assert done.returncode == 0, done.stderr
    removed = re.search(
        r"^Removed, because they belonged to another model: (.*)$", done.stdout, re.M
    )
    assert "bundle/" in removed[1]
    assert not (project / "bundle.zip").exists()


def test_the_default_dataset_is_not_downloaded_unasked(project: Path):
    # The terminal of a person who says no.
    ours, theirs = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = ["snakemake", "--cores", "1", "--config", "device=cpu", "--", "label_map.txt"]
    with subprocess.Popen(
        command, cwd=project, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        os.write(ours, b"n\n")
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # The other end is closed.
                break
            shown += part
        status = process.wait()
    text = shown.decode()
    assert "The default in config.yaml is flowers: 3,670 photos" in text
    assert "dataset=FOLDER" in text
    assert "Nothing was downloaded." in text
    assert status == 1
    assert "fetch_dataset" not in text and not list(project.glob("resources/datasets/flowers/*"))
