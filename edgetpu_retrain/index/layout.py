"""Find the class folders of a dataset, and the splits that an export has sorted them into."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index.manifest import SPLITS
from edgetpu_retrain.photos import walk

MIN_CLASSES = 2
_SPLIT_WORDS = {
    "train": SPLITS[0],
    "training": SPLITS[0],
    "val": SPLITS[1],
    "valid": SPLITS[1],
    "validation": SPLITS[1],
    "test": SPLITS[2],
    "testing": SPLITS[2],
}
# What stands beside the photos in exports whose classes are not folders.
_ANNOTATIONS = (
    "_classes.csv",
    "_annotations.coco.json",
    "_annotations.csv",
    "_darknet.labels",
    "labels.txt",
)
_IMAGE_FOLDERS = {"images", "jpegimages"}
_ANNOTATION_FOLDERS = {"labels", "annotations", "imagesets", "masks"}
_ANNOTATION_FOLDERS |= {"segmentationclass", "segmentationobject"}
_ONE_FOLDER_PER_CLASS = (
    "Export it as one folder per class (in Roboflow: the format Folder Structure of a "
    "classification project), or give a table of paths and classes as dataset: photos.csv."
)


@dataclass(frozen=True)
class ClassFolder:
    """A folder of photos of one class.

    Attributes:
        path: path of the folder.
        label: name of the class.
        split: the split that the folder's photos are in; "" if the photos' content decides.
    """

    path: Path
    label: str
    split: str = ""


@dataclass(frozen=True)
class Layout:
    """The class folders of a dataset.

    Attributes:
        folders: the class folders, sorted by path.
        outside: folders above them, whose own photos are in no class.
        splits: names of the folders that are used as splits; empty if there are none.
        warning: what the user should check; "" if nothing.
    """

    folders: list[ClassFolder]
    outside: list[Path]
    splits: tuple[str, ...] = ()
    warning: str = ""


def class_name(name: str) -> str:
    r"""Returns the class that a folder's name, or a table's entry, stands for.

    Label maps are read without blanks at the ends of a line, and macOS decomposes accents.

    >>> class_name("cafe\u0301 ")
    'café'
    """
    return unicodedata.normalize("NFC", name).strip()


def split_of(name: str) -> str:
    """Returns the split that a name stands for; "" if it stands for none, or for several.

    >>> split_of("valid"), split_of("Test Set"), split_of("seg_train"), split_of("trainer")
    ('validation', 'test', 'train', '')
    """
    words = re.findall("[a-z]+", name.casefold())
    found = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
    return found.pop() if len(found) == 1 else ""


def find(root: str | Path, descend: bool = False, use_splits: bool = False) -> Layout:
    """Finds the class folders below `root`.

    Args:
        root: the folder of the dataset.
        descend: whether to descend while a folder contains only one folder that itself contains
            folders, as in most archives.
        use_splits: whether folders such as train, valid and test, with a folder per class in each,
            say which split their photos are in. Otherwise they are classes.

    Raises:
        UserError: there are fewer than two class folders, a name cannot be that of a class, two
            names are too much alike, or the classes are in files instead of folders.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"The folder {root} does not exist.")
    if not os.access(root, os.R_OK | os.X_OK):
        raise UserError(f"The folder {root} cannot be read: permission denied.")
    folders = walk.visible_folders(root)
    while descend and len(folders) == 1 and (subfolders := walk.visible_folders(folders[0])):
        folders = subfolders
    layout = None
    if use_splits:
        _check_annotations(folders)
        layout = _in_splits(folders)
    if layout is None:
        _check_count(root, folders)
        layout = Layout(
            _classes(folders, ""), [folders[0].parent], warning=_same_subfolders(folders)
        )
    check_names([(folder.label, str(folder.path)) for folder in layout.folders])
    return layout


def _classes(folders: Iterable[Path], split: str) -> list[ClassFolder]:
    return [ClassFolder(folder, class_name(folder.name), split) for folder in folders]


def _check_count(root: Path, folders: Sequence[Path]) -> None:
    if len(folders) >= MIN_CLASSES:
        return
    content = f"only the folder {folders[0].name!r}" if folders else "no folders"
    hint = ""
    if folders and walk.visible_folders(folders[0]):
        hint = f" If the class folders are in there, use that folder: {folders[0]}."
    elif tables := sorted(root.glob("*.[ct]sv")):
        hint = f" If {tables[0].name} says which photo is of which class, use that: {tables[0]}."
    elif archives := sorted(root.glob("*.zip")):
        # Teachable Machine's project.tm unpacks to such a folder.
        hint = f" Unpack {archives[0].name} and other archives in it, each into such a subfolder."
    raise UserError(
        f"{root} contains {content}. A dataset needs at least two subfolders, one per class, "
        f"named after the class.{hint}"
    )


def _subfolders(folder: Path) -> list[Path]:
    """Returns the folders in a split's folder, which archives may have wrapped in another."""
    folders = walk.visible_folders(folder)
    while len(folders) == 1 and (subfolders := walk.visible_folders(folders[0])):
        folders = subfolders
    return folders


def _in_splits(folders: Sequence[Path]) -> Layout | None:
    """Returns the layout of folders that are splits; None if they are not."""
    splits = {folder: split_of(folder.name) for folder in folders}
    if len(folders) < 2 or SPLITS[0] not in splits.values():
        return None
    named = [folder for folder in folders if splits[folder]]
    below = {folder: _subfolders(folder) for folder in folders}
    names = {folder: {path.name for path in below[folder]} for folder in folders}
    in_train = set().union(*(names[folder] for folder in named if splits[folder] == SPLITS[0]))
    shared = [folder for folder in named if len(names[folder] & in_train) >= MIN_CLASSES]
    if len(named) == len(folders) and len(in_train) < MIN_CLASSES:
        raise UserError(
            f"The folders {_listed(folders)} in {folders[0].parent} are named like splits, but do "
            "not hold one folder per class, for at least two classes. Sort the photos of each "
            "into such folders, or, if these are the classes, run with --config "
            "split='{folders: false}'."
        )
    if len(in_train) < MIN_CLASSES or (len(named) < len(folders) and len(shared) < 2):
        return None
    used: list[ClassFolder] = []
    outside = [folders[0].parent]
    for folder in folders:
        # A further folder, which no split is named after, is trained on if it holds the classes.
        if splits[folder] or names[folder] & in_train:
            used += _classes(below[folder], splits[folder] or SPLITS[0])
        outside.append(below[folder][0].parent if below[folder] else folder)
    return Layout(
        sorted(used, key=lambda folder: f"{folder.path}/"),
        outside,
        tuple(folder.name for folder in folders if names[folder]),
    )


def _check_annotations(folders: Sequence[Path]) -> None:
    """Raises a UserError if the classes are in files beside the photos, not in folders."""
    for folder in [*folders, *{folder.parent for folder in folders}]:
        names = {name.name.casefold() for name in walk.visible_folders(folder)}
        beside = names - _IMAGE_FOLDERS
        if beside and beside < names and beside <= _ANNOTATION_FOLDERS:
            raise UserError(
                f"{folder} holds the folders {' and '.join(sorted(names))}, as exports for object "
                f"detection do, instead of one folder per class. {_ONE_FOLDER_PER_CLASS}"
            )
        if names:
            continue
        for name in _ANNOTATIONS:
            if split_of(folder.name) and (folder / name).is_file():
                raise UserError(
                    f"The classes of the photos in {folder} are in the file {name}, not in "
                    f"folders. {_ONE_FOLDER_PER_CLASS}"
                )


def _same_subfolders(folders: Sequence[Path]) -> str:
    """Returns a warning if every class folder holds the same folders, perhaps the real classes."""
    names = {tuple(path.name for path in walk.visible_folders(folder)) for folder in folders}
    (same,) = names if len(names) == 1 else [()]
    if len(same) < MIN_CLASSES:
        return ""
    shown = ", ".join(same[:5]) + (" ..." if len(same) > 5 else "")
    return (
        f"The classes are {_listed(folders)}, and each of these folders holds the same folders: "
        f"{shown}. If those are the classes, put all photos of a class into one folder."
    )


def _listed(folders: Iterable[Path]) -> str:
    names = [folder.name for folder in folders]
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def check_names(classes: Iterable[tuple[str, str]]) -> None:
    """Checks the names of classes.

    Args:
        classes: names of classes, each with the folder or line of a table that it stands in.

    Raises:
        UserError: a name is empty, not UTF-8 or not printable, or two names differ only in case,
            blanks or the way that accents are written.
    """
    seen: dict[str, tuple[str, str]] = {}
    for label, place in classes:
        shown = place.encode("utf-8", "backslashreplace").decode()
        if any("\udc80" <= character <= "\udcff" for character in label):
            raise UserError(f"The name of the class in {shown} is not UTF-8. Rename it.")
        if not label or not label.isprintable():
            # The label map cannot represent such names.
            what = "non-printable characters in its name" if label else "a name of blanks"
            raise UserError(f"The class in {shown!r} has {what}. Rename it.")
        other, first = seen.setdefault(label.casefold(), (label, place))
        is_twin = os.path.dirname(first) == os.path.dirname(place) and first != place
        if other != label or is_twin:
            raise UserError(
                f"{first!r} and {place!r} are two classes whose names look the same: they differ "
                "only in upper and lower case, blanks or the way that accents are written. Merge "
                "them, or rename one."
            )
