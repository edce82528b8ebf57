"""What the labelling page needs of a run: all photos, and what is known of them."""

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
    """Where things are, as the rule `label` leaves it to the page.

    Attributes:
        dataset: the name of the photos.
        manifest: the path of the photos with a class.
        unlabelled: the path of those in folders of unlabelled photos.
        applied: the path of what became of corrections.
        embeddings: the paths of the shards.
        groups: the path of the groups of near-copies of all photos.
        labels: the path of the file that labels go to.
        folder: for what the page keeps for itself.
        is_trained_on: whether the next run reads the labels' file.
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
        """Reads what `save` wrote.

        Raises:
            UserError: it is damaged.
        """
        content = files.read_json(path, cls)
        with files.reading(path):
            return cls(**content)

    def photos(self) -> tuple[LabelledEmbeddings, list[str]]:
        """Loads every photo that could be embedded.

        Returns:
            The photos, a line each, in the order of identities; and the class of the folder that
            each is in, empty where it is in none. The former's labels and splits mean nothing.

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
        """Finds the near-copies among all photos, and saves itself.

        Args:
            path: where to save.
            num_threads: how many run at once.

        Raises:
            UserError: a file is damaged.
        """
        found, _ = self.photos()
        numbers = near_copies.groups(found.vectors, found.hashes, num_threads)
        near_copies.write_groups(found.identities, numbers, self.groups)
        self.save(path)
