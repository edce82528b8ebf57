"""Makes report.html and the tables next to it from the files of a run."""

import importlib.metadata
import itertools
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.backbone.known_classes import find_known
from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.evaluation import saved
from edgetpu_retrain.evaluation.unlabelled import describe
from edgetpu_retrain.head import Head
from edgetpu_retrain.index import corrections, manifest
from edgetpu_retrain.io import files
from edgetpu_retrain.report import fine_tuning, history, page
from edgetpu_retrain.report.comparison import read_table
from edgetpu_retrain.report.duplicates import write_copies
from edgetpu_retrain.report.findings import Run, find
from edgetpu_retrain.report.suspects import write_suspects
from edgetpu_retrain.training import near_copies, predictions

log = logging.getLogger(__name__)

_PACKAGES = ("edgetpu-retrain", "ai-edge-litert", "numpy", "pillow", "scikit-learn", "snakemake")


@dataclass(frozen=True)
class Sources:
    """Paths of the files that a report is made from.

    Attributes:
        predictions: predictions.tsv.
        evaluation: evaluation.json.
        groups: groups.tsv.
        head: head.npz.
        embeddings: the embeddings of all shards (.npz).
        manifest: manifest.tsv.
        unlabelled: unlabelled.tsv.
        skipped: skipped.tsv.
        corrections: applied_corrections.tsv.
        models: the .tflite files that the report waits for.
        runs: runs.json of all backbones and recipes on this dataset.
        fine_tuning: fine_tuning.json; None without one.
        comparison: comparison.json; None without one.
        label_lists: lists of what networks know, by the networks' names.
    """

    predictions: Path
    evaluation: Path
    groups: Path
    head: Path
    embeddings: Sequence[Path]
    manifest: Path
    unlabelled: Path
    skipped: Path
    corrections: Path
    models: Sequence[Path]
    runs: Sequence[Path]
    fine_tuning: Path | None = None
    comparison: Path | None = None
    label_lists: Mapping[str, str | Path] = field(default_factory=dict)


def make_report(
    sources: Sources,
    dataset: str,
    backbone: str,
    settings: Mapping[str, Any],
    folder: str | Path,
    commands: Mapping[str, str],
    edgetpu_model: str = "",
) -> None:
    """Writes report.html, suspects.tsv, copies.tsv and runs.json to a folder.

    Args:
        sources: paths of the files that they are made from.
        dataset: name of the dataset.
        backbone: name of the backbone.
        settings: the configuration, by key.
        folder: the run's folder in results/, which has the other files of the run.
        commands: as in `findings.Run`.
        edgetpu_model: as in `findings.Run`.

    Raises:
        UserError: the predictions and the manifest list different photos, or a file is damaged.
    """
    # Imported here because the TFLite schema is slow to import.
    from edgetpu_retrain.tflite.model import Model
    from edgetpu_retrain.tflite.truncate import cut_reason

    folder = Path(folder)
    labelled = LabelledEmbeddings.load(sources.embeddings, manifest.read(sources.manifest))
    # Without the test dataset, because corrections do not apply to it.
    scored = predictions.read(sources.predictions, manifest.SPLITS)
    photos = dict(zip(labelled.classes, np.bincount(labelled.labels).tolist(), strict=True))
    # The predictions cover every photo that could be decoded, in the order of the manifest, except
    # those that the extractor was fine-tuned on.
    if len(labelled) != len(scored):
        labelled = labelled.select(labelled.are_of(scored.identities))
    rows = labelled.rows[np.argsort(labelled.lines)]
    if len(rows) != len(scored):
        raise UserError(
            f"{sources.predictions} belongs to a different set of photos. Delete it and run again."
        )
    skipped = manifest.read_skipped(sources.skipped)
    applied = corrections.read_applied(sources.corrections)
    groups = near_copies.read_groups(sources.groups, labelled.identities)
    evaluation = saved.read(sources.evaluation)
    waiting = corrections.undecided(manifest.read(sources.unlabelled), applied)
    unlabelled = None
    if waiting:
        unlabelled = describe(
            LabelledEmbeddings.load(sources.embeddings, waiting),
            labelled.vectors,
            groups,
            Head.load(sources.head),
            {row["precision"]: row["score"] for row in evaluation.get("thresholds", [])}.get(0.95),
        )
    first_skipped = list(itertools.islice(skipped, page.MAX_LINES))
    findings = find(
        Run(
            dataset,
            backbone,
            photos,
            scored,
            evaluation,
            groups[rows],
            labelled.hashes[rows],
            skipped=first_skipped,
            num_skipped=len(first_skipped) + sum(1 for _ in skipped),
            corrections=applied,
            unlabelled=unlabelled,
            models=sources.models,
            settings=settings,
            fine_tuning=fine_tuning.read(sources.fine_tuning) if sources.fine_tuning else None,
            comparison=read_table(sources.comparison) if sources.comparison else (),
            commands=commands,
            known_classes=find_known(photos, sources.label_lists),
            cut=next(filter(None, (cut_reason(Model.load(path)) for path in sources.models)), ""),
            edgetpu_model=edgetpu_model,
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
    older = history.append(history.read([own] if own.is_file() else []), findings, own)
    earlier = sorted([*others, *older], key=lambda run: run["time"])
    write_suspects(findings.suspects, scored, folder / "suspects.tsv")
    write_copies(findings.groups, scored, folder / "copies.tsv")
    html = page.report_page(findings, earlier, str(folder))
    with (
        files.replacing(folder / "report.html") as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        file.writelines(html)
    log.info("Report: %s", folder / "report.html")


def versions() -> dict[str, str]:
    """Returns the versions of Python, the operating system and the main packages, by name."""
    installed = {"Python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
