"""Plan a run as the Snakefile does, without Snakemake."""

from pathlib import Path
from typing import Any

from edgetpu_retrain.config.settings import Settings
from edgetpu_retrain.workflow import plan
from tests.conftest import ROOT

# Without what a machine has: neither its Edge TPU nor its compiler.
PLAIN = {"device": "cpu", "compiler": {"sources": []}}


def folders_in(folder: Path, workflow: Path = ROOT) -> plan.Folders:
    return plan.Folders(
        workflow, folder / "results", folder / "resources/edgetpu_compiler", folder / ".identities"
    )


def make_plan(folder: Path, scan_photos: bool = True, **settings: Any) -> plan.Plan:
    """Plans a run in a folder."""
    return plan.make(Settings.parse(PLAIN | settings), folders_in(folder), scan_photos)


def lay_small_photos(folder: Path, count: int = 40) -> Path:
    """Lays files that could be photos by their first bytes, so many in each of two classes."""
    for label in ("daisy", "rose"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (folder / label / f"{i:03}.bmp").write_bytes(b"BM" + f"{label} {i}".encode())
    return folder
