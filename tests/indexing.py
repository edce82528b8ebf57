"""Index a folder of photos, and read what was written."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgetpu_retrain import corrections, index, manifest
from edgetpu_retrain.manifest import Photo, Skipped


def outputs_in(folder: Path) -> index.Outputs:
    return index.Outputs(
        folder / "manifest.tsv",
        folder / "not_photos.tsv",
        folder / "applied_corrections.tsv",
        folder / "identities.tsv",
        folder / "shards",
    )


@dataclass(frozen=True)
class Written:
    """What is in the tables after an index."""

    photos: list[Photo]
    skipped: list[Skipped]
    identities: dict[str, tuple[int, int, str]]
    corrected: list[corrections.Applied]
    shards: dict[str, dict[str, str]]
    summary: str


def write_index(root: Path, **options) -> Written:
    """Indexes `root` into a hidden folder in it; a tenth each is for validation and testing."""
    outputs = outputs_in(root / ".index")
    options = {"validation": 0.1, "test": 0.1, "max_skipped": 0.1} | options
    found = index.index(root, outputs, **options)
    shards = sorted(Path(outputs.shards).glob("*.tsv"))
    return Written(
        list(manifest.read(outputs.manifest)),
        list(manifest.read_skipped(outputs.not_photos)),
        {path: known for path, *known in manifest.read_identities(outputs.identities)},
        corrections.read_applied(outputs.corrections),
        {path.stem: manifest.read_shard(path) for path in shards},
        index.summary(found),
    )


def files_in(folder: Path, pattern: str = "*") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


def times(paths: Iterable[Path]) -> list[int]:
    return [path.stat().st_mtime_ns for path in paths]
