"""The state behind the labelling page: the labels, and a model trained on them."""

import contextlib
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.embeddings import look_alikes
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import corrections
from edgetpu_retrain.index.layout import class_name
from edgetpu_retrain.io import files
from edgetpu_retrain.labelling import choose, learner, progress, views
from edgetpu_retrain.labelling.choose import Group
from edgetpu_retrain.labelling.labels_file import Change, Decision, History, LabelsFile, undo
from edgetpu_retrain.labelling.learner import Learned
from edgetpu_retrain.labelling.progress import Progress
from edgetpu_retrain.labelling.sources import Sources
from edgetpu_retrain.training import near_copies

NO_LABEL, LEFT_OUT = -1, -2


@dataclass(frozen=True)
class Known:
    """What was learned from one version of the labels.

    Attributes:
        version: the version of the labels.
        present: [P] int, the classes that have a photo.
        labels: [N] int, class of each photo as a position in `present`; negative without one.
        learned: the trained layer; None with fewer than two classes.
        groups: what to label next; each card is the row of a photo that stands for its near-copies.
        progress: the accuracy, and whether the labels are enough.
    """

    version: int
    present: np.ndarray
    labels: np.ndarray
    learned: Learned | None
    groups: list[Group]
    progress: Progress


class Session:
    """The photos, their labels and a model that is kept up to date with them; thread-safe."""

    def __init__(self, sources: Sources) -> None:
        """Loads the photos and labels, and trains once.

        Raises:
            UserError: a file is damaged, or the corrections file is not a table of corrections.
        """
        self.sources = sources
        self.photos, self._folders = sources.photos()
        self.identities = list(self.photos.identities)
        self.row_of = {sha256: row for row, sha256 in enumerate(self.identities)}
        self.paths = dict(zip(self.identities, self.photos.paths.tolist(), strict=True))
        self._copies = near_copies.read_groups(sources.groups, self.identities)
        self._places = look_alikes.directions(self.photos.vectors)
        self._file = LabelsFile(sources.labels)
        self._history = History(Path(sources.folder, "history.jsonl"))
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self.classes: list[str] = sorted({name for name in self._folders if name})
        self._codes = np.empty(0, int)
        self._decided: dict[str, Decision] = {}
        self._version = 0
        self._is_open = True
        self._curve_path = Path(sources.folder, "accuracy.json")
        # Number of labels, accuracy, and the bounds of its interval.
        self._curve: list[list[float]] = []
        if self._curve_path.exists():
            self._curve = files.read_json(self._curve_path, list[tuple[int, float, float, float]])
        self.problem = ""
        with self._lock:
            self._take_over()
        self._known = self._learn(*self._snapshot())

    # Labels

    def _take_over(self) -> None:
        """Takes the class of every photo from the corrections file. Call it with the lock held."""
        self._decided = self._file.decisions()
        codes = np.full(len(self.identities), NO_LABEL)
        given: dict[int, str] = {row: folder for row, folder in enumerate(self._folders) if folder}
        for sha256, decision in self._decided.items():
            if (row := self.row_of.get(sha256)) is not None:
                given[row] = decision.label
        new = sorted({name for name in given.values() if name} - set(self.classes))
        self.classes += new
        numbers = {name: number for number, name in enumerate(self.classes)} | {"": LEFT_OUT}
        for row, name in given.items():
            codes[row] = numbers[name]
        self._codes = codes
        self._version += 1
        self._changed.notify_all()

    def refresh(self) -> None:
        """Takes over what another program has written to the corrections file."""
        with self._lock:
            try:
                if self._file.refresh():
                    self._take_over()
                self.problem = ""
            except UserError as error:
                self.problem = str(error)

    def label(self, identities: Sequence[str], name: str | None, each: bool = False) -> int:
        """Labels photos, and returns once the labels are on disk.

        Args:
            identities: the identities of the photos.
            name: the class; "" to leave the photos out, None to remove their labels.
            each: whether a person looked at each photo.

        Returns:
            The number of changed photos.

        Raises:
            UserError: a photo is unknown, the name is not that of a class, or the corrections file
                is damaged.
            OSError: the corrections file cannot be written.
        """
        unknown = [sha256 for sha256 in identities if sha256 not in self.row_of]
        if unknown or not identities:
            raise UserError("The page is out of date: it shows photos that are gone. Reload it.")
        if name:
            # The form in which it will be read from the file.
            name = class_name(name) or name
        with self._lock:
            if name:
                self._check_class(identities, name)
            note = corrections.IN_A_GROUP if len(identities) > 1 and not each else ""
            decision = None if name is None else Decision(name, note)
            changes = self._file.change(dict.fromkeys(identities, decision), self.paths)
            return self._follow(changes, undone=False)

    def undo(self) -> int:
        """Undoes the last change; returns the number of changed photos.

        Raises:
            UserError: there is nothing to undo, or the corrections file is damaged.
        """
        with self._lock:
            return self._follow(undo(self._file, self._history, self.paths), undone=True)

    def _follow(self, changes: list[Change], undone: bool) -> int:
        if changes:
            if not undone:
                self._history.add(changes)
            self._take_over()
        return len(changes)

    def _check_class(self, identities: Iterable[str], name: str) -> None:
        if reason := corrections.invalid_class_reason(name):
            raise UserError(f"{reason[0].upper()}{reason[1:]}.")
        used = {*self._folders, *(decision.label for decision in self._decided.values())}
        if twins := [other for other in used - {name} if other.casefold() == name.casefold()]:
            raise UserError(f"There already is a class {twins[0]!r}. Use it, or another name.")
        # The index accepts a class without a folder only from a photo that is in no class folder.
        known = {folder for folder in self._folders if folder}
        known |= {
            one.label for sha256, one in self._decided.items() if self._is_in_no_folder(sha256)
        }
        if name not in known and not any(map(self._is_in_no_folder, identities)):
            raise UserError(
                f"{name!r} is a new class. Give it to a photo that is in no class folder first."
            )

    def _is_in_no_folder(self, sha256: str) -> bool:
        row = self.row_of.get(sha256)
        return row is not None and not self._folders[row]

    # The model

    def _snapshot(self) -> tuple[int, np.ndarray]:
        return self._version, self._codes

    def run(self) -> None:
        """Trains whenever there are new labels, until `close` is called; run it in a thread."""
        while True:
            with self._lock:
                while self._is_open and self._known.version == self._version:
                    self._changed.wait()
                if not self._is_open:
                    return
                snapshot = self._snapshot()
            known = self._learn(*snapshot)
            with self._lock:
                self._known = known

    def close(self) -> None:
        """Ends `run`."""
        with self._lock:
            self._is_open = False
            self._changed.notify_all()

    def _learn(self, version: int, codes: np.ndarray) -> Known:
        present = np.unique(codes[codes >= 0])
        labels = np.where(codes >= 0, np.searchsorted(present, codes), codes)
        chosen, rest = codes >= 0, codes == NO_LABEL
        # The first of several near-copies without a label stands for all of them.
        waiting = np.flatnonzero(rest)
        cards = waiting[np.unique(self._copies[waiting], return_index=True)[1]]
        places = self._places[cards]
        if len(present) < 2:
            begun = choose.begin(places)
            done = progress.nothing(int(chosen.sum()), int(rest.sum()))
            return Known(version, present, labels, None, _of_rows(begun, cards), done)
        learned = learner.learn(self._places, labels, self._copies, len(present))
        of_labelled = self._places[chosen]
        reliability = learner.Reliability(learned.held_out, labels[chosen])
        threshold = reliability.threshold(learned.scores[cards])
        groups = choose.go_on(learned.scores[cards], places, of_labelled, threshold)
        groups = [replace(one, label=int(present[one.label])) for one in groups]
        unlike = 0.0
        if len(cards):
            unlike = choose.share_unlike(places, of_labelled, self._copies[chosen])
        done = progress.measure(learned, reliability, threshold, labels, rest, unlike)
        if done.accuracy and (not self._curve or self._curve[-1][0] != done.labelled):
            self._curve.append([done.labelled, *done.accuracy])
            with files.replacing(self._curve_path) as temporary:
                temporary.write_text(json.dumps(self._curve), encoding="ascii")
        return Known(version, present, labels, learned, _of_rows(groups, cards), done)

    # What the page shows

    def list_photos(self) -> list[tuple[str, str]]:
        """Returns the identity and the file name of every photo."""
        names = (Path(path).name for path in self.photos.paths.tolist())
        shown = (name.encode("utf-8", "replace").decode() for name in names)
        return list(zip(self.identities, shown, strict=True))

    def state(self) -> dict[str, Any]:
        """Returns what the page always shows: classes, counts and progress."""
        with self._lock:
            counts = np.bincount(self._codes[self._codes >= 0], minlength=len(self.classes))
            known = self._known
            return {
                "version": self._version,
                "learned": known.version,
                "classes": [
                    {"name": name, "photos": int(count)}
                    for name, count in zip(self.classes, counts, strict=True)
                ],
                "left_out": int(np.sum(self._codes == LEFT_OUT)),
                "waiting": int(np.sum(self._codes == NO_LABEL)),
                "undo": len(self._history),
                "progress": vars(known.progress),
                "curve": self._curve,
                "problem": self.problem,
            }

    def labels(self) -> dict[str, Any]:
        """Returns the class number of every photo: -1 without a label, -2 if it is left out."""
        with self._lock:
            return {"version": self._version, "labels": self._codes.tolist()}

    def view(self, name: str) -> dict[str, Any]:
        """Returns the groups of one of `views.VIEWS`, with the near-copies of every card."""
        with self._lock:
            known, codes = self._known, self._codes
            decided = {
                self.row_of[sha256]
                for sha256, one in self._decided.items()
                if one.note != corrections.IN_A_GROUP and sha256 in self.row_of
            }
        if name == views.TODO:
            waiting = codes == NO_LABEL
            members = views.members_of(self._copies, waiting)
            groups = known.groups
        else:
            members = {}
            groups = views.find(name, codes, known.present, known.learned, known.labels,
                                self._copies, decided)  # fmt: skip
        shown = [
            {
                "kind": group.kind,
                "class": group.label if group.label >= 0 else None,
                "cards": [
                    members.get(int(self._copies[row]), [row]) for row in group.cards.tolist()
                ],
            }
            for group in groups
        ]
        return {"view": name, "learned": known.version, "groups": shown}


def _of_rows(groups: Iterable[Group], rows: np.ndarray) -> list[Group]:
    return [replace(group, cards=rows[group.cards]) for group in groups]


@contextlib.contextmanager
def training(session: Session) -> Iterator[None]:
    """Keeps the session's model up to date in a background thread during the block."""
    thread = threading.Thread(target=session.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        session.close()
        thread.join()
