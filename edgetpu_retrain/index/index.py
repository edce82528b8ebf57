"""The photos of a data set: what is listed, what identifies them, and the tables they go to."""

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
    warn_of_contradictions,
    warn_of_strays,
    warn_of_unreadable,
)
from edgetpu_retrain.index.corrections import Applied
from edgetpu_retrain.index.manifest import SPLITS, Photo, Skipped, shard_of
from edgetpu_retrain.io import files

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """Where the index goes: the paths of its tables, and the folder of the shards."""

    manifest: str | Path
    unlabelled: str | Path
    not_photos: str | Path
    corrections: str | Path
    shards: str | Path


@dataclass(frozen=True)
class Index:
    """The photos of a folder.

    Attributes:
        classes: the names of the class folders, sorted.
        photos: those with a class, sorted by path.
        left_out: identity and path of photos that a correction leaves out. They are embedded all
            the same, so that one can come back at once.
        unusable: files that cannot be photos, each with its reason.
        strays: photos that lie in no class folder.
        corrected: what became of each correction.
        unlabelled: photos of the unlabelled folders, without a class; those that a correction has
            given one are among `photos`, too. All are embedded.
        unreadable: files in these folders that cannot be photos, each with its reason.
    """

    classes: list[str]
    photos: list[Photo]
    left_out: list[tuple[str, str]]
    unusable: list[Skipped]
    strays: list[Skipped]
    corrected: list[Applied]
    unlabelled: list[Photo] = field(default_factory=list)
    unreadable: list[Skipped] = field(default_factory=list)

    def shards(self, count: int) -> list[dict[str, str]]:
        """Divides the photos into `count` shards: the path of each photo by identity.

        Of copies it is the path of the first.
        """
        shards: list[dict[str, str]] = [{} for _ in range(count)]
        for photo in itertools.chain(self.photos, self.unlabelled):
            shards[shard_of(photo.sha256, count)].setdefault(photo.sha256, photo.path)
        for sha256, path in self.left_out:
            shards[shard_of(sha256, count)].setdefault(sha256, path)
        return shards

    def digests(self, count: int) -> "Digests":
        """Returns what identifies the photos, divided into `count` shards."""
        listed = [(photo.sha256, photo.label, photo.split) for photo in self.photos]
        others = [
            *map(astuple, [*self.unusable, *self.strays]),
            *map(astuple, self.corrected),
            *map(_fields, self.unlabelled),
            *map(astuple, self.unreadable),
        ]
        return Digests(
            _digest(itertools.chain(map(_fields, self.photos), others, [self.classes])),
            _digest(sorted(listed)),
            tuple(_digest([sorted(shard)]) for shard in self.shards(count)),
        )


@dataclass(frozen=True)
class Digests:
    """What identifies the photos of a data set, as far as a stage depends on them.

    Attributes:
        everything: of paths, classes, splits, identities and what was left out.
        labels: of the class and split of each identity; the paths do not matter.
        shards: of the identities in each shard.
    """

    everything: str
    labels: str
    shards: tuple[str, ...]

    def save(self, path: str | Path) -> None:
        """Writes the digests as JSON."""
        with files.replacing(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Digests":
        """Reads what `save` wrote."""
        content = files.read_json(path)
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
    """Checks that there are enough photos, and writes the tables.

    Args:
        index: of the photos.
        outputs: where to write.
        shards: into how many parts the photos are divided.
        max_skipped: the fraction of photos that may be unusable before this is an error.
        listed_in: where all files that cannot be used are listed, also when this fails.

    Raises:
        UserError: there are too few photos in a class, none of them in the training split, or too
            many files that cannot be photos.
    """
    unused = sorted([*index.unusable, *index.strays])
    if listed_in is not None:
        manifest.write_skipped(unused, listed_in)
    total = len(index.photos) + len(index.left_out) + len(index.unusable)
    check_skipped(index.unusable, total, max_skipped, listed_in)
    # Where labels are still being given, training checks this; embedding need not wait.
    if not index.unlabelled:
        check_counts(index.classes, _counts(index.photos), len(index.unusable), listed_in)
    warn_of_strays(index.strays)
    warn_of_unreadable(index.unreadable)
    warn_of_contradictions(_in_several_classes(index.photos))
    manifest.write(index.photos, outputs.manifest)
    manifest.write(index.unlabelled, outputs.unlabelled)
    manifest.write_skipped(unused, outputs.not_photos)
    corrections.write_applied(index.corrected, outputs.corrections)
    tables = [Path(outputs.shards, f"{name}.tsv") for name in manifest.shard_names(shards)]
    for table, shard in zip(tables, index.shards(shards), strict=True):
        manifest.write_shard(shard, table)
    manifest.remove_other_shards(tables)


def _counts(listed: Iterable[Photo]) -> Counter[tuple[str, str]]:
    return Counter((photo.label, photo.split) for photo in listed)


def _in_several_classes(listed: Iterable[Photo]) -> list[list[str]]:
    """Returns the paths of each photo that has copies in another class."""
    copies = defaultdict(list)
    for photo in listed:
        copies[photo.sha256].append(photo)
    return [
        [photo.path for photo in same]
        for same in copies.values()
        if len({photo.label for photo in same}) > 1
    ]


def summary(index: Index) -> str:
    """Returns a table of photos by class and split, as text, with the totals below it."""
    counts = _counts(index.photos)
    labels = sorted({label for label, _ in counts})
    width = max(len(label) for label in [*labels, "class"])
    lines = [f"{'class':<{width}}" + "".join(f"{split:>12}" for split in SPLITS)]
    for label in labels:
        numbers = "".join(f"{counts[label, split]:>12}" for split in SPLITS)
        lines.append(f"{label:<{width}}{numbers}")
    return "\n".join([*lines, totals(index)])


def totals(index: Index) -> str:
    """Says how many photos there are, and what became of corrections."""
    labels = {photo.label for photo in index.photos}
    lines = [f"{len(index.photos)} photos in {len(labels)} classes"]
    if index.unlabelled:
        lines.append(f"{len(index.unlabelled)} photos in the unlabelled folders")
    if index.corrected:
        outcomes = Counter(one.outcome for one in index.corrected)
        said = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
        lines.append(f"corrections: {said}")
    return "\n".join(lines)
