"""What a fresh folder makes of the same photos and settings, to compare a changed folder with."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from edgetpu_retrain.io import files
from tests.conftest import copy_project, run_snakemake

TARGET = "retrained_model_edgetpu.tflite"
DELIVERED = (TARGET, "retrained_model.tflite", "label_map.txt")
# They hold times, or pictures of a page that holds them.
_TIMED = ("report.html", "runs.json", "evaluation.json")


def products(project: Path, folder: str) -> dict[str, bytes]:
    """What a run made, by path: what was delivered, and its results below results/.

    Args:
        project: where it ran.
        folder: the results of a backbone and recipe, as in "photos/small/optimum".
    """
    dataset = folder.partition("/")[0]
    paths = [project / name for name in DELIVERED]
    paths += (project / "results" / dataset).glob("*.tsv")
    paths += (project / "results" / folder).parent.glob("*.tsv")
    paths += (project / "results" / folder).glob("*.*")
    found = {
        str(path.relative_to(project)): path.read_bytes()
        for path in paths
        if path.name not in _TIMED and not path.name.startswith(".")
    }
    evaluation = json.loads((project / "results" / folder / "evaluation.json").read_text())
    del evaluation["photos_per_second"]
    return found | {"evaluation": json.dumps(evaluation).encode()}


class Oracle:
    """Runs the workflow in fresh folders, once for each state of photos and settings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, dict[str, bytes]] = {}

    def products(self, project: Path, dataset: str, folder: str) -> dict[str, bytes]:
        """What a fresh run makes of a project's configuration and the photos it names."""
        state = self._state(project, dataset)
        key = json.dumps([state, folder], sort_keys=True)
        if key not in self._known:
            fresh = copy_project(self._folder / str(len(self._known)))
            shutil.copy(project / "config.yaml", fresh)
            for name in filter(None, (dataset, state["config"].get("corrections"))):
                copy = shutil.copytree if (project / name).is_dir() else shutil.copy
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                copy(project / name, fresh / name)
            done = run_snakemake(fresh, TARGET)
            assert done.returncode == 0, done.stdout + done.stderr
            self._known[key] = products(fresh, folder)
            shutil.rmtree(fresh)
        return self._known[key]

    def _state(self, project: Path, dataset: str) -> Mapping[str, Any]:
        config = yaml.safe_load((project / "config.yaml").read_text())
        below = [project / dataset, *(project / dataset).rglob("*")]
        if config.get("corrections"):
            below.append(project / config["corrections"])
        contents = {
            str(path.relative_to(project)): files.sha256(path) for path in below if path.is_file()
        }
        return {"config": config, "files": contents}
