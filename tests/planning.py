"""Plan a run as the Snakefile does, without Snakemake."""

from pathlib import Path
from typing import Any

import yaml
from snakemake.utils import validate

from edgetpu_retrain.config.configuration import values_from_text
from edgetpu_retrain.workflow import plan
from tests.conftest import ROOT

SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
# Without what a machine has: neither its Edge TPU nor its compiler.
PLAIN = {"device": "cpu", "compiler": {"sources": []}}


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    """A configuration as its schema leaves it, with defaults."""
    config = yaml.safe_load(yaml.safe_dump(PLAIN | settings))
    values_from_text(config, yaml.safe_load(SCHEMA.read_text()))
    validate(config, str(SCHEMA))
    return config


def places_in(folder: Path, workflow: Path = ROOT) -> plan.Places:
    return plan.Places(
        workflow, folder / "results", folder / "resources/edgetpu_compiler", folder / ".identities"
    )


def make_plan(folder: Path, looks_at_photos: bool = True, **settings: Any) -> plan.Plan:
    """Plans a run in a folder."""
    return plan.make(checked(settings), places_in(folder), looks_at_photos)


def lay_small_photos(folder: Path, count: int = 40) -> Path:
    """Lays files that could be photos by their first bytes, so many in each of two classes."""
    for label in ("daisy", "rose"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (folder / label / f"{i:03}.bmp").write_bytes(b"BM" + f"{label} {i}".encode())
    return folder
