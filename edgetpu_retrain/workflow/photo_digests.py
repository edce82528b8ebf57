"""The digests of all photos before the run, and the number of shards they are divided into."""

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from edgetpu_retrain.config.datasets import Dataset
from edgetpu_retrain.config.settings import Settings
from edgetpu_retrain.index import manifest, scan
from edgetpu_retrain.index.identity_cache import IdentityCache
from edgetpu_retrain.index.index import Digests, Index
from edgetpu_retrain.io import archive
from edgetpu_retrain.photos import decode, walk
from edgetpu_retrain.workflow import fingerprints
from edgetpu_retrain.workflow.fingerprints import digest, digest_of_download


class PhotoDigests:
    """The digests of the photos before the run, and the number of shards.

    Attributes:
        archives: digests that identify the archives of photos, by the names of their folders.
        test_photos: a digest of the test dataset; "" if there is none.
        strangers: a digest of the photos of other things; "" if there are none.
        digests: digests of the photos.
        num_shards: number of shards.
    """

    def __init__(
        self,
        settings: Settings,
        dataset: Dataset,
        unlabelled: Sequence[Dataset],
        results: Path,
        caches: Path,
        cache: IdentityCache,
        corrections: str | None,
        test_dataset: str | None,
        strangers: str | None,
        scan_photos: bool,
    ) -> None:
        """Identifies archives and, if `scan_photos`, everything in folders; as for `plan.make`.

        Raises:
            UserError: the folders are not as required, or a file is damaged.
        """
        packed = [one for one in (dataset, *unlabelled) if one.is_packed]
        self.archives = {one.name: _identify_archive(one, cache) for one in packed}
        self.test_photos = self.strangers = ""
        if not scan_photos:
            self.digests = Digests.load(results / "digests.json")
            self.num_shards = len(self.digests.shards)
            return
        if test_dataset:
            self.test_photos = _identify_folder(test_dataset, caches)
        if strangers:
            self.strangers = _identify_folder(strangers, caches)
        folders = [one.folder for one in unlabelled if one.folder]
        in_folders = None
        if dataset.folder or folders:
            in_folders = scan.scan(
                dataset.folder,
                IdentityCache(identity_cache_path(dataset.folder or folders[0], caches)),
                **settings.split.model_dump(),
                # Which photos labels apply to is known only when all of them are there.
                corrections_path=None if packed else corrections,
                unlabelled=folders,
            )
        current = manifest.count_shards((results / "shards").glob("*-of-*.tsv"))
        self.num_shards = _choose_shards(settings, packed, in_folders, current)
        if in_folders and not packed:
            self.digests = in_folders.digests(self.num_shards)
            return
        content = self.archives[packed[0].name]
        if in_folders or len(packed) > 1:
            others = in_folders.digests(1).everything if in_folders else ""
            content = digest(sorted(self.archives.values()), others)
        correction = digest("corrections", cache.sha256(corrections) if corrections else None)
        self.digests = fingerprints.archive_digests(
            content, settings.split, correction, self.num_shards
        )


def _identify_archive(packed: Dataset, cache: IdentityCache) -> str:
    """Returns a digest of an archive's content, or of where it is downloaded from."""
    if packed.archive:
        return cache.sha256(packed.archive)
    return digest_of_download(packed.sha256 or packed.urls)


def _choose_shards(
    settings: Settings, packed: Sequence[Dataset], in_folders: Index | None, current: int | None
) -> int:
    """Returns the number of shards; the photos in an archive may not be unpacked yet."""
    if settings.shards != "auto":
        return settings.shards
    count = len(in_folders.photos) + len(in_folders.unlabelled) if in_folders else 0
    for one in packed:
        photos = one.photos
        if photos is None and current is None and one.archive:
            photos = archive.count_files(one.archive)
        if photos is None:
            return current or 1
        count += photos
    return manifest.choose_shards(count, current)


def identity_cache_path(folder: str, caches: Path) -> Path:
    """Returns the path of the identity cache for a folder of photos, in the folder `caches`."""
    name = re.sub(r"[^\w.-]+", "_", Path(folder).name)[:60]
    # The cache holds why files are no photos, which depends on the formats that are read.
    return caches / f"{name}-{digest(os.path.abspath(folder), decode.FORMATS)[:16]}.npz"


def _identify_folder(folder: str, caches: Path) -> str:
    # A cache of its own: the index stores other verdicts on files that are not photos.
    cache = IdentityCache(identity_cache_path(folder, caches / "whole_folders"))
    paths = [
        path
        for path, status in walk.files_below(folder)
        # Reading a pipe could block forever.
        if stat.S_ISREG(status.st_mode) and status.st_size <= decode.MAX_BYTES
    ]
    result = digest([(path, cache.sha256(path)) for path in paths if os.access(path, os.R_OK)])
    cache.save()
    return result
