"""Index a folder of photos, and read what was written."""

from dataclasses import dataclass
from pathlib import Path

from edgetpu_retrain.index import corrections, index, manifest, scan
from edgetpu_retrain.index.identity_cache import IdentityCache
from edgetpu_retrain.index.index import Digests, Index
from edgetpu_retrain.index.manifest import Photo, Skipped


def scan_folder(folder: Path, cache: Path | None = None, **options) -> Index:
    """Lists `folder` (or another `root`), with its cache in it; a tenth each is held out."""
    options = {"root": folder, "validation": 0.1, "test": 0.1} | options
    cache = cache or folder / ".index" / "identities.npz"
    return scan.scan(cache=IdentityCache(cache), **options)


@dataclass(frozen=True)
class Written:
    """What is in the tables after an index."""

    photos: list[Photo]
    skipped: list[Skipped]
    corrected: list[corrections.AppliedCorrection]
    shards: dict[str, dict[str, str]]
    digests: Digests
    summary: str


def write_index(
    root: Path,
    shards: int = 1,
    max_skipped: float = 0.1,
    listed_in: Path | None = None,
    **options,
) -> Written:
    """Scans `root` with `options` and writes the tables into the hidden folder."""
    folder = root / ".index"
    outputs = index.Outputs(
        folder / "manifest.tsv",
        folder / "unlabelled.tsv",
        folder / "not_photos.tsv",
        folder / "applied_corrections.tsv",
        folder / "shards",
    )
    found = scan_folder(root, **options)
    index.write(found, outputs, shards, max_skipped, listed_in)
    return Written(
        list(manifest.read(outputs.manifest)),
        list(manifest.read_skipped(outputs.not_photos)),
        corrections.read_applied(outputs.corrections),
        {path.stem: manifest.read_shard(path) for path in sorted((folder / "shards").glob("*"))},
        found.digests(shards),
        index.summary(found),
    )


def files_in(folder: Path, pattern: str = "*") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}
