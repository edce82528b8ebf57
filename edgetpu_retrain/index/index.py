"""The index of a dataset: its photos, the digests that identify them, and the index tables."""

import hashlib
import itertools
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path

from edgetpu_retrain.index import corrections, manifest
from edgetpu_retrain.index.checks import (
    check_counts,
    check_skipped,
    warn_about_contradictions,
    warn_about_strays,
    warn_about_unreadable,
)
from edgetpu_retrain.index.corrections import AppliedCorrection
from edgetpu_retrain.index.manifest import SPLITS, Photo, Skipped, shard_of
from edgetpu_retrain.io import files

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """The paths of the index tables, and the folder of the shards."""

    manifest: str | Path
    unlabelled: str | Path
    not_photos: str | Path
    corrections: str | Path
    shards: str | Path


@dataclass(frozen=True)
class Index:
    """The photos of a dataset.

    Attributes:
        classes: names of the class folders, sorted.
        photos: photos with a class, sorted by path.
        left_out: identity and path of photos that corrections leave out. They are embedded anyway,
            so that removing such a correction does not require embedding anything.
        unusable: files that cannot be photos, with reasons.
        strays: photos that are not in a class folder.
        applied_corrections: outcome of every correction.
        notes: what the user should know about how the dataset was read.
        unlabelled: photos in the unlabelled folders, without a class. Those that a correction gives
            a class are in `photos`, too. All are embedded.
        unreadable: files in the unlabelled folders that cannot be photos, with reasons.
    """

    classes: list[str]
    photos: list[Photo]
    left_out: list[tuple[str, str]]
    unusable: list[Skipped]
    strays: list[Skipped]
    applied_corrections: list[AppliedCorrection]
    notes: list[str] = field(default_factory=list)
    unlabelled: list[Photo] = field(default_factory=list)
    unreadable: list[Skipped] = field(default_factory=list)

    def shards(self, count: int) -> list[dict[str, str]]:
        """Divides the photos into `count` shards: paths by photo identity.

        For copies of the same photo, the path is that of the first.
        """
        shards: list[dict[str, str]] = [{} for _ in range(count)]
        for photo in itertools.chain(self.photos, self.unlabelled):
            shards[shard_of(photo.sha256, count)].setdefault(photo.sha256, photo.path)
        for sha256, path in self.left_out:
            shards[shard_of(sha256, count)].setdefault(sha256, path)
        return shards

    def digests(self, count: int) -> "Digests":
        """Returns the digests of the photos, divided into `count` shards."""
        listed = [(photo.sha256, photo.label, photo.split) for photo in self.photos]
        undecided = corrections.undecided(self.unlabelled, self.applied_corrections)
        waiting = [photo.sha256 for photo in undecided]
        others = [
            *map(astuple, [*self.unusable, *self.strays]),
            *map(astuple, self.applied_corrections),
            *map(_fields, self.unlabelled),
            *map(astuple, self.unreadable),
        ]
        return Digests(
            _digest(itertools.chain(map(_fields, self.photos), others, [self.classes])),
            _digest(sorted(listed)),
            tuple(_digest([sorted(shard)]) for shard in self.shards(count)),
            _digest([sorted(waiting)]) if waiting else "",
        )


@dataclass(frozen=True)
class Digests:
    """Digests of a dataset's photos, one for each part of the index that a rule may depend on.

    All are hexadecimal.

    Attributes:
        everything: digest of paths, classes, splits, identities, skipped files and corrections.
        labels: digest of the class and split of every photo, regardless of paths.
        shards: digests of the identities in each shard.
        unlabelled: digest of the identities of the photos that still have no label; empty if there
            are none, or if some photos are in archives: then `labels` covers them.
    """

    everything: str
    labels: str
    shards: tuple[str, ...]
    unlabelled: str = ""

    def save(self, path: str | Path) -> None:
        """Writes the digests as JSON."""
        with files.replacing(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Digests":
        """Reads digests written by `save`.

        Raises:
            UserError: the file is damaged.
        """
        content = files.read_json(path, cls)
        with files.reading(path):
            return cls(**content | {"shards": tuple(content["shards"])})


def _fields(photo: Photo) -> tuple[str, ...]:
    return photo.path, photo.label, photo.split, photo.sha256


def _digest(rows: Iterable[Sequence[str]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(("\0".join(row) + "\n").encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def write(
    index: Index,
    outputs: Outputs,
    shards: int,
    max_skipped: float,
    listed_in: str | Path | None = None,
) -> None:
    """Checks that there are enough photos, and writes the index tables.

    Args:
        index: the index to write.
        outputs: the paths to write to.
        shards: number of shards.
        max_skipped: the fraction of photos that may be unusable, in [0, 1].
        listed_in: path of a list of all unused files, which is written even if the checks fail.

    Raises:
        UserError: a class has too few photos or none in the training split, or too many files are
            unusable.
    """
    unused = sorted([*index.unusable, *index.strays])
    if listed_in is not None:
        manifest.write_skipped(unused, listed_in)
    total = len(index.photos) + len(index.left_out) + len(index.unusable)
    check_skipped(index.unusable, total, max_skipped, listed_in)
    # With unlabelled photos, training checks this, because embedding need not wait for labels.
    if not index.unlabelled:
        check_counts(index.classes, _counts(index.photos), len(index.unusable), listed_in)
    warn_about_strays(index.strays)
    warn_about_unreadable(index.unreadable)
    warn_about_contradictions(_in_several_classes(index.photos))
    manifest.write(index.photos, outputs.manifest)
    manifest.write(index.unlabelled, outputs.unlabelled)
    manifest.write_skipped(unused, outputs.not_photos)
    corrections.write_applied(index.applied_corrections, outputs.corrections)
    tables = [Path(outputs.shards, f"{name}.tsv") for name in manifest.shard_names(shards)]
    for table, shard in zip(tables, index.shards(shards), strict=True):
        manifest.write_shard(shard, table)
    manifest.remove_other_shards(tables)


def _counts(photos: Iterable[Photo]) -> Counter[tuple[str, str]]:
    return Counter((photo.label, photo.split) for photo in photos)


def _in_several_classes(photos: Iterable[Photo]) -> list[list[str]]:
    """Returns, for every photo with copies in several classes, the paths of all copies."""
    copies = defaultdict(list)
    for photo in photos:
        copies[photo.sha256].append(photo)
    return [
        [photo.path for photo in group]
        for group in copies.values()
        if len({photo.label for photo in group}) > 1
    ]


def summary(index: Index) -> str:
    """Returns a table of the number of photos by class and split as text, followed by `totals`."""
    counts = _counts(index.photos)
    labels = sorted({label for label, _ in counts})
    width = max(len(label) for label in [*labels, "class"])
    lines = [f"{'class':<{width}}" + "".join(f"{split:>12}" for split in SPLITS)]
    for label in labels:
        numbers = "".join(f"{counts[label, split]:>12}" for split in SPLITS)
        lines.append(f"{label:<{width}}{numbers}")
    return "\n".join([*lines, totals(index)])


def totals(index: Index) -> str:
    """Returns the number of photos and classes, and what the user should know, as text."""
    labels = {photo.label for photo in index.photos}
    lines = [*index.notes]
    lines += [f"{len(index.photos)} photos in {len(labels)} classes"]
    if index.unlabelled:
        lines.append(f"{len(index.unlabelled)} photos in the unlabelled folders")
    if index.applied_corrections:
        outcomes = Counter(applied.outcome for applied in index.applied_corrections)
        numbers = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
        lines.append(f"Corrections: {numbers}")
    return "\n".join(lines)
