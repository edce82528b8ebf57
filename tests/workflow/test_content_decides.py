"""Content decides what is out of date, not times, and not Snakemake's notes alone."""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import (
    configure,
    copy_project,
    empty_notes,
    jobs_run,
    lay_photos,
    run_snakemake,
    small_backbone,
)
from tests.workflow.oracle import TARGET, Oracle, products

FOLDER = "photos/small/optimum"
TEN_DAYS = 10 * 24 * 3600 * 10**9


@pytest.fixture(scope="module")
def oracle(tmp_path_factory) -> Oracle:
    return Oracle(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="module")
def finished(sample_photos: Path, made: Path, tmp_path_factory) -> Path:
    """A project after a run on two classes of 8 photos."""
    project = copy_project(tmp_path_factory.mktemp("finished"))
    lay_photos(sample_photos, project / "photos", 8, ("daisy", "rose"))
    configure(project, dataset="photos", backbone=small_backbone(made), device="cpu", shards=2)
    done = run_snakemake(project, TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    return project


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project, times included."""
    return Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))


def with_the_clock_set_back(project: Path) -> None:
    """Everything that is there was written ten days from now."""
    for path in project.rglob("*"):
        if not path.is_symlink():
            time = path.stat().st_mtime_ns + TEN_DAYS
            os.utime(path, ns=(time, time))


def copied(project: Path) -> None:
    """As by `cp -r project/* new/`: without what begins with a dot at the top, all times new."""
    shutil.copytree(
        project, project.with_name("new"), copy_function=shutil.copyfile,
        ignore=lambda folder, names: [".snakemake"] if Path(folder) == project else [],
    )  # fmt: skip
    shutil.rmtree(project)
    project.with_name("new").rename(project)


def untouched(project: Path) -> None:
    pass


def first_photo(project: Path, label: str) -> Path:
    return min((project / "photos" / label).glob("*.jpg"))


def replace_with_size_and_time_kept(project: Path) -> None:
    """A photo's last bytes, behind its picture, are other ones."""
    photo = first_photo(project, "daisy")
    status, content = photo.stat(), photo.read_bytes()
    photo.write_bytes(content[:-2] + b"xy")
    os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert photo.stat().st_size == status.st_size


def change_places(project: Path) -> None:
    """Two photos of different classes, with their times."""
    one, other = first_photo(project, "daisy"), first_photo(project, "rose")
    one.rename(project / "aside")
    other.rename(one)
    (project / "aside").rename(other)


def add_an_old_photo(project: Path) -> None:
    photo = first_photo(project, "daisy")
    new = photo.with_name("new.jpg")
    new.write_bytes(photo.read_bytes() + b"another")
    os.utime(new, (0, 0))


# Notes of Snakemake's that are gone or empty: test_kills.
STATES = [untouched, with_the_clock_set_back, copied]


@pytest.mark.parametrize("state", STATES)
def test_nothing_to_do_stays_so_and_a_change_is_noticed(
    project: Path, oracle: Oracle, state: Callable[[Path], None]
):
    state(project)
    before = products(project, FOLDER)
    done = run_snakemake(project, TARGET)
    assert done.returncode == 0, done.stdout + done.stderr
    # Without notes, and with new times, jobs may run again; no photo is embedded again.
    printed = done.stdout + done.stderr
    assert "Embeddings:" not in printed.replace("Embeddings: 0 computed", "")
    assert products(project, FOLDER) == before
    assert jobs_run(run_snakemake(project, "-n", TARGET)) == []
    state(project)
    for change in (replace_with_size_and_time_kept, change_places, add_an_old_photo):
        change(project)
        done = run_snakemake(project, TARGET)
        assert done.returncode == 0, done.stdout + done.stderr
        now = products(project, FOLDER)
        assert now == oracle.products(project, "photos", FOLDER), change.__name__
        assert now != before
        before = now
    assert jobs_run(run_snakemake(project, "-n", TARGET)) == []


def test_an_archive_and_a_network_that_are_replaced_by_older_ones(project: Path, made: Path):
    shutil.make_archive(str(project / "mine"), "zip", project / "photos")
    network = project / "network.tflite"
    shutil.copy(made / "extractor.tflite", network)
    configure(project, dataset="mine.zip", backbone={"name": "net", "extractor": "network.tflite"})
    target = "retrained_model.tflite"
    run_snakemake(project, target)
    before = (project / target).read_bytes()
    # An archive of which one photo lies in the other class.
    moved = min((project / "photos/daisy").iterdir())
    moved.rename(project / "photos/rose" / moved.name)
    shutil.make_archive(str(project / "mine"), "zip", project / "photos")
    os.utime(project / "mine.zip", (0, 0))
    done = run_snakemake(project, target)
    assert "extract_dataset" in jobs_run(done)
    after = (project / target).read_bytes()
    assert after != before
    with zipfile.ZipFile(network, "a") as packed:
        packed.writestr("note.txt", "another file, though the same network")
    os.utime(network, (0, 0))
    assert "make_extractor" in jobs_run(run_snakemake(project, target))


def test_nothing_of_the_users_is_touched(project: Path):
    """Notes among the results, models of other tools, and whatever an empty note's name encodes."""
    outside = project.parent / "outside.txt"
    mine = {
        project / "results/photos/notes.tsv": b"no end of line",
        project / "results/photos/small/optimum/notes.json": b"{",
        project / "retrained_model_mine.tflite": b"not a classifier",
        outside: b"outside",
    }
    for path, content in mine.items():
        path.write_bytes(content)
    empty_notes(project)
    name = str(outside).encode().hex()
    (project / ".snakemake/metadata" / name).touch()
    add_an_old_photo(project)
    for arguments in ((TARGET,), ("--summary",), ("--list",), ()):
        run_snakemake(project, *arguments)
    assert {path: path.read_bytes() for path in mine} == mine


def test_photos_that_change_while_the_run_starts(project: Path):
    """Between the listing and the index; the next run goes on."""
    add_an_old_photo(project)
    script = project / "scripts/index.py"
    content = script.read_text()
    photo = first_photo(project, "rose")
    script.write_text(f"import os\nos.unlink({str(photo)!r})\n{content}")
    done = run_snakemake(project, TARGET)
    assert done.returncode != 0
    assert "changed while the run was starting. Run again." in done.stdout + done.stderr
    script.write_text(content)
    assert run_snakemake(project, TARGET).returncode == 0
