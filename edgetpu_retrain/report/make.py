"""From the files of a run to its page and the tables beside it."""

import importlib.metadata
import itertools
import json
import logging
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import corrections, manifest
from edgetpu_retrain.io import files
from edgetpu_retrain.report import findings, history, page
from edgetpu_retrain.report.duplicates import write_copies
from edgetpu_retrain.report.suspects import write_suspects
from edgetpu_retrain.training import near_copies, predictions

log = logging.getLogger(__name__)

_PROGRAMS = ("edgetpu-retrain", "ai-edge-litert", "numpy", "pillow", "scikit-learn", "snakemake")


@dataclass(frozen=True)
class Sources:
    """Where what a report is made of lies.

    Attributes:
        predictions: predictions.tsv.
        evaluation: evaluation.json.
        groups: groups.tsv.
        embeddings: the files of all shards.
        manifest: manifest.tsv.
        unlabelled: unlabelled.tsv.
        skipped: skipped.tsv.
        corrections: what became of the corrections.
        models: the model's files.
        runs: what was reported before, of all backbones.
        comparison: comparison.json; None where none was made.
    """

    predictions: Path
    evaluation: Path
    groups: Path
    embeddings: Sequence[Path]
    manifest: Path
    unlabelled: Path
    skipped: Path
    corrections: Path
    models: Sequence[Path]
    runs: Sequence[Path]
    comparison: Path | None = None


def make_report(
    sources: Sources,
    dataset: str,
    backbone: str,
    settings: Mapping[str, Any],
    folder: str | Path,
) -> None:
    """Writes report.html, suspects.tsv, copies.tsv and runs.json to a folder.

    Args:
        sources: where what they are made of lies.
        dataset: name of the photos.
        backbone: name of the network.
        settings: what the configuration says, by key.
        folder: below results/, where the other files of this run are.
    """
    folder = Path(folder)
    labelled = LabelledEmbeddings.load(sources.embeddings, manifest.read(sources.manifest))
    # Labels of the test dataset are its owner's business: corrections do not reach it.
    judged = predictions.read(sources.predictions, manifest.SPLITS)
    # All photos that could be decoded were judged, and are listed in the order of the manifest.
    rows = labelled.rows[np.argsort(labelled.lines)]
    if len(rows) != len(judged):
        raise UserError(f"{sources.predictions} is of other photos. Delete it and run again.")
    skipped = manifest.read_skipped(sources.skipped)
    applied = corrections.read_applied(sources.corrections)
    waiting = {photo.sha256 for photo in manifest.read(sources.unlabelled)}
    waiting -= {one.sha256 for one in applied}
    first_skipped = list(itertools.islice(skipped, page.MOST_LINES))
    found = findings.find(
        findings.Run(
            dataset,
            backbone,
            dict(zip(labelled.classes, np.bincount(labelled.labels).tolist(), strict=True)),
            judged,
            files.read_json(sources.evaluation),
            near_copies.read_groups(sources.groups, labelled.identities)[rows],
            labelled.hashes[rows],
            skipped=first_skipped,
            num_skipped=len(first_skipped) + sum(1 for _ in skipped),
            corrections=applied,
            waiting=len(waiting),
            models=sources.models,
            settings=settings,
            comparison=files.read_json(sources.comparison) if sources.comparison else (),
            command=command(settings),
            versions=versions(),
            checksums={
                "manifest.tsv": files.sha256(sources.manifest),
                "the extractor": labelled.extractor,
                **{path.name: files.sha256(path) for path in sources.models},
            },
        )
    )
    own = folder / "runs.json"
    others = history.read([path for path in sources.runs if path != own])
    older = history.append(history.read([own] if own.is_file() else []), found, own)
    earlier = sorted([*others, *older], key=lambda run: run["time"])
    write_suspects(found.suspects, judged, folder / "suspects.tsv")
    write_copies(found.groups, judged, folder / "copies.tsv")
    html = page.report_page(found, earlier, str(folder))
    with (
        files.replacing(folder / "report.html") as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        file.writelines(html)
    log.info("Report: %s", folder / "report.html")


def command(settings: Mapping[str, Any]) -> str:
    """Returns the command that makes the same model again.

    >>> command({"dataset": "photos/my birds", "seed": 0})
    "snakemake --cores all --config 'dataset=photos/my birds' seed=0 -- retrained_model.tflite"
    """
    words = [
        shlex.quote(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
        for key, value in settings.items()
        if value is not None
    ]
    return f"snakemake --cores all --config {' '.join(words)} -- retrained_model.tflite"


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that take part."""
    found = {"Python": platform.python_version(), "system": platform.platform()}
    for program in _PROGRAMS:
        try:
            found[program] = importlib.metadata.version(program)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
