"""The bundle of a run learns on a device; the same photos in the workflow give the same files."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edgetpu_retrain.deploy.bundle import make
from tests.bare import make_bare_python
from tests.conftest import configure, copy_project, lay_photos, run_snakemake, small_backbone

KNOWN, NEW = ("bellflower", "daisy", "rose"), "tulip"
SAME = ("model.tflite", "model_edgetpu.tflite", "labels.txt", "embeddings.npz")


@pytest.fixture(scope="module")
def project(made: Path, sample_photos: Path, tmp_path_factory) -> Path:
    """A project with the bundle of three classes."""
    project = copy_project(tmp_path_factory.mktemp("learn"))
    lay_photos(sample_photos, project / "photos/few", 20, KNOWN)
    configure(project, dataset="photos/few", backbone=small_backbone(made), device="cpu")
    done = run_snakemake(project, "--", "bundle")
    assert done.returncode == 0, done.stdout + done.stderr
    return project


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """A Python with the packages of requirements-learn.txt and no others."""
    requirements = Path(make.__file__).with_name("requirements-learn.txt")
    return make_bare_python(tmp_path_factory.mktemp("bare"), requirements)


def run_in(bundle: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    bare = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(command, cwd=bundle, env=bare, capture_output=True, text=True)


def test_learned_on_a_device_and_in_the_workflow(
    project: Path, python: Path, sample_photos: Path, tmp_path: Path
):
    board = tmp_path / "board"
    shutil.unpack_archive(project / "bundle.zip", board)
    bundle = board / "bundle"
    lay_photos(sample_photos, tmp_path / "new", 20, [NEW])
    assert run_in(bundle, python, "-c", "import snakemake").returncode != 0
    done = run_in(bundle, python, "learn.py", tmp_path / "new")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"with the new class {NEW}" in done.stdout
    done = run_in(bundle, python, "classify.py", "--check")
    assert "as expected" in done.stdout
    shutil.copytree(bundle / "learned", project / "photos/few", dirs_exist_ok=True)
    done = run_snakemake(project, "--", "bundle")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in SAME:
        assert (bundle / name).read_bytes() == (project / "bundle" / name).read_bytes(), name
    # Without the embeddings, none are left over from the run before.
    done = run_snakemake(project, "--config", "bundle={embeddings: false}", "--", "bundle")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (project / "bundle/embeddings.npz").exists()
    assert (project / "bundle/class_means.npz").exists()


def test_what_is_missing_is_named(project: Path, tmp_path: Path):
    shutil.copytree(project / "bundle", tmp_path / "bundle")
    bare = make_bare_python(tmp_path / "bare", project / "bundle/requirements.txt")
    done = run_in(tmp_path / "bundle", bare, "learn.py", tmp_path)
    assert done.returncode != 0
    assert "No module named" in done.stderr
    assert "-m pip install -r" in done.stderr
    assert "requirements-learn.txt" in done.stderr
    assert "Traceback" not in done.stderr
