"""The files of a run that the labelling page reads."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import corrections, manifest
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.training import near_copies


@dataclass(frozen=True)
class Sources:
    """Paths that the rule `label` writes for the page.

    Attributes:
        dataset: name of the dataset.
        manifest: path of manifest.tsv, which lists the photos with a class.
        unlabelled: path of unlabelled.tsv, which lists the photos in folders of unlabelled photos.
        applied: path of applied_corrections.tsv.
        embeddings: paths of the embeddings, one file per shard.
        groups: path of the groups of near-copies among all photos.
        labels: path of the corrections file that labels are written to.
        folder: folder for the page's own files.
        is_trained_on: whether the next run reads the corrections file.
    """

    dataset: str
    manifest: str
    unlabelled: str
    applied: str
    embeddings: list[str]
    groups: str
    labels: str
    folder: str
    is_trained_on: bool

    def save(self, path: str | Path) -> None:
        """Writes JSON."""
        with files.replacing(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Sources":
        """Reads a file written by `save`.

        Raises:
            UserError: the file is damaged.
        """
        content = files.read_json(path, cls)
        with files.reading(path):
            return cls(**content)

    def photos(self) -> tuple[LabelledEmbeddings, list[str]]:
        """Loads all photos that could be embedded.

        Returns:
            The photos in the order of their identities, without meaningful labels and splits; and
            the class of the folder that each photo is in, "" if it is in none.

        Raises:
            UserError: a file is damaged.
        """
        folder_of: dict[str, str] = {}
        path_of: dict[str, str] = {}
        for photo in manifest.read(self.manifest):
            folder_of.setdefault(photo.sha256, photo.label)
            path_of.setdefault(photo.sha256, photo.path)
        for one in corrections.read_applied(self.applied):
            if one.outcome != corrections.MISSING:
                folder_of[one.sha256] = one.folder
                path_of.setdefault(one.sha256, one.path)
        for photo in manifest.read(self.unlabelled):
            folder_of[photo.sha256] = ""
            path_of.setdefault(photo.sha256, photo.path)
        if not path_of:
            raise UserError("There are no photos to label.")
        listed = (Photo(path, "", "train", sha256) for sha256, path in path_of.items())
        found = LabelledEmbeddings.load(self.embeddings, listed)
        return found, [folder_of[sha256] for sha256 in found.identities]

    def prepare(self, path: str | Path, num_threads: int) -> None:
        """Finds the near-copies among all photos, and saves the sources.

        Args:
            path: the file to write.
            num_threads: number of threads.

        Raises:
            UserError: a file is damaged.
        """
        found, _ = self.photos()
        numbers = near_copies.groups(found.vectors, found.hashes, num_threads)
        near_copies.write_groups(found.identities, numbers, self.groups)
        self.save(path)
