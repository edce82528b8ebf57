"""Runs a script of the workflow by itself, and says how much memory it needed.

python -m tests.stage scripts/train.py '{"input": {...}, "output": {...}, "params": {...}}'
"""

import json
import runpy
import sys
from types import SimpleNamespace

from edgetpu_retrain.evaluation import scoring
from tests.memory import peak_of


def no_photos(model: str, photos: list, *rest: object) -> None:
    """In place of the check on raw photos, of which there are none."""
    assert len(photos) == scoring.SAMPLE_SIZE


if __name__ == "__main__":
    script, given = sys.argv[1], json.loads(sys.argv[2])
    scoring.check_on_photos = no_photos
    parts = {name: SimpleNamespace(**given[name]) for name in ("input", "output", "params")}
    wildcards = SimpleNamespace(backbone="b")
    snakemake = SimpleNamespace(**parts, wildcards=wildcards, threads=1, log=[None])
    print(peak_of(lambda: runpy.run_path(script, {"snakemake": snakemake})))
