"""Random edits in one folder, with a run after each: the bytes are those of a fresh folder.

`--edits 200` makes that many, `--seed 7` other ones.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from edgetpu_retrain.io import files
from tests.conftest import configure, copy_project, jobs_run, run_snakemake, small_backbone
from tests.workflow.oracle import TARGET, Oracle, products

SETTINGS = {
    "split": [{"test": 0.1, "validation": 0.1}, {"test": 0.3, "validation": 0}],
    "training": [{"recipe": "optimum"}, {"recipe": "coral", "num_iter": 50}],
    "resize": ["bilinear", "nearest"],
    "seed": [0, 1],
    "shards": [1, 2, 3],
    "max_skipped": [0.1, 0.5],
}


class Editor:
    """Edits a project's photos, settings and results as chance has it."""

    def __init__(self, project: Path, source: Path, chance: random.Random) -> None:
        self.project = project
        self._source = sorted(source.rglob("*.jpg"))
        self._chance = chance
        self._number = 0
        self.dataset = "photos"

    def edit(self) -> str:
        """Makes one edit; returns its name."""
        edits = [
            *[self.add, self.move, self.delete, self.relabel, self.replace, self.swap],
            *[self.rename_class, self.set, self.set, self.correct, self.lose_result],
            *[self.lose_notes, self.other_data_set],
        ]
        chosen = self._chance.choice(edits)
        chosen()
        return chosen.__name__

    def _photos(self) -> list[Path]:
        return sorted((self.project / self.dataset).rglob("*.jpg"))

    def _photo(self) -> Path:
        return self._chance.choice(self._photos())

    def _classes(self) -> list[Path]:
        return sorted(path for path in (self.project / self.dataset).iterdir() if path.is_dir())

    def _new_name(self) -> str:
        self._number += 1
        return f"new {self._number}"

    def _spare(self) -> Path:
        """A photo of a class that has some to spare."""
        large = [c for c in self._classes() if len(list(c.rglob("*.jpg"))) > 7]
        return self._chance.choice(sorted(self._chance.choice(large).rglob("*.jpg")))

    def add(self) -> None:
        folder = self._chance.choice(self._classes())
        content = self._chance.choice(self._source).read_bytes()
        for _ in range(self._chance.choice((1, 1, 3))):
            name = self._new_name()
            (folder / f"{name}.jpg").write_bytes(content + name.encode())

    def move(self) -> None:
        photo = self._photo()
        folder = photo.parent / self._new_name()
        folder.mkdir()
        photo.rename(folder / photo.name)

    def delete(self) -> None:
        self._spare().unlink()

    def relabel(self) -> None:
        photo = self._spare()
        photo.rename(self._chance.choice(self._classes()) / f"{self._new_name()}.jpg")

    def replace(self) -> None:
        photo = self._photo()
        status, content = photo.stat(), photo.read_bytes()
        self._number += 1
        photo.write_bytes(content[:-4] + f"{self._number:04}".encode())
        os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))

    def swap(self) -> None:
        one, other = self._photo(), self._photo()
        if one != other:
            one.rename(self.project / "aside")
            other.rename(one)
            (self.project / "aside").rename(other)

    def rename_class(self) -> None:
        folder = self._chance.choice(self._classes())
        folder.rename(folder.with_name(self._new_name()))
        self._drop_corrections()

    def set(self) -> None:
        key = self._chance.choice(sorted(SETTINGS))
        configure(self.project, **{key: self._chance.choice(SETTINGS[key])})

    def correct(self) -> None:
        """Leaves a photo out, gives another a class, and confirms a third; or takes that back."""
        path = self.project / "corrections.tsv"
        if path.exists() and self._chance.random() < 0.5:
            self._drop_corrections()
            return
        lines = ["sha256\tclass\tpath\tnote\n"]
        identities = dict.fromkeys(files.sha256(self._photo()) for _ in range(2))
        for identity, label in zip(identities, ("", self._classes()[0].name), strict=False):
            lines.append(f"{identity}\t{label}\t\t\n")
        path.write_text("".join(lines))
        configure(self.project, corrections=path.name)

    def _drop_corrections(self) -> None:
        configure(self.project, corrections="")
        (self.project / "corrections.tsv").unlink(missing_ok=True)

    def lose_result(self) -> None:
        """Deletes a result, whole or with all that is of its data set or backbone."""
        below = sorted((self.project / "results").rglob("*"))
        path = self._chance.choice([*below, self.project / TARGET])
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def lose_notes(self) -> None:
        shutil.rmtree(self.project / self._chance.choice((".snakemake", ".snakemake/metadata")))

    def other_data_set(self) -> None:
        self.dataset = "others/photos" if self.dataset == "photos" else "photos"
        configure(self.project, dataset=self.dataset)
        # They name classes that may have been renamed.
        self._drop_corrections()


def run_and_kill(project: Path, after: float) -> None:
    """Starts a run and kills it and its jobs after some seconds."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    run = subprocess.Popen(
        ["snakemake", "--cores", "2", TARGET], cwd=project, env=os.environ | {"PATH": path},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    time.sleep(after)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def test_random_edits(
    request: pytest.FixtureRequest, sample_photos: Path, made: Path, tmp_path: Path
):
    chance = random.Random(request.config.getoption("--seed"))
    project = copy_project(tmp_path)
    for i, name in enumerate(("photos", "others/photos")):
        for label in ("daisy", "rose"):
            (project / name / label).mkdir(parents=True)
            for path in sorted((sample_photos / label).iterdir())[9 * i : 9 * (i + 1)]:
                shutil.copy(path, project / name / label)
    configure(project, dataset="photos", backbone=small_backbone(made), device="cpu", shards=2)
    oracle = Oracle(tmp_path / "fresh")
    editor = Editor(project, sample_photos, chance)
    history = []
    for _ in range(request.config.getoption("--edits")):
        history.append(editor.edit())
        if chance.random() < 0.3:
            run_and_kill(project, chance.uniform(0.5, 8))
            history.append("kill")
            if chance.random() < 0.5:
                history.append(editor.edit())
        # Without a target, so that results that were deleted are made again.
        done = run_snakemake(project)
        assert done.returncode == 0, (history, done.stdout + done.stderr)
        training = yaml.safe_load((project / "config.yaml").read_text())["training"]
        recipe = {"optimum": "optimum", "coral": "coral-num_iter=50"}[training["recipe"]]
        folder = f"photos/small/{recipe}"
        expected = oracle.products(project, editor.dataset, folder)
        assert products(project, folder) == expected, history
        assert jobs_run(run_snakemake(project, "-n")) == [], history
    print(*history)
