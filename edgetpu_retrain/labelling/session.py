"""The state behind the page: which photo has which label, and what the model makes of that."""

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
    """What was made of the labels at one time.

    Attributes:
        version: of the labels.
        present: [P] int, the classes that had a photo.
        labels: [N] int, positions in `present`; negative without a class.
        learned: the layer; None with fewer than two classes.
        groups: what to label next; cards are rows of photos that stand for their near-copies.
        progress: how good that is.
    """

    version: int
    present: np.ndarray
    labels: np.ndarray
    learned: Learned | None
    groups: list[Group]
    progress: Progress


class Session:
    """Photos, their labels and a model that follows them; may be used from several threads."""

    def __init__(self, sources: Sources) -> None:
        """Loads everything, and trains once.

        Raises:
            UserError: a file is damaged, or the labels' file is no such table.
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
        # Number of labels, accuracy, and the ends of its interval.
        self._curve: list[list[float]] = []
        if self._curve_path.exists():
            self._curve = files.read_json(self._curve_path, list[tuple[int, float, float, float]])
        self.problem = ""
        with self._lock:
            self._take_over()
        self._known = self._learn(*self._snapshot())

    # Labels

    def _take_over(self) -> None:
        """Follows the labels' file: a class for every photo. The lock is held."""
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
        """Takes over what another program has written to the labels' file."""
        with self._lock:
            try:
                if self._file.refresh():
                    self._take_over()
                self.problem = ""
            except UserError as error:
                self.problem = str(error)

    def label(self, identities: Sequence[str], name: str | None, each: bool = False) -> int:
        """Gives photos a class, and returns when that is on the disk.

        Args:
            identities: of the photos.
            name: the class; empty to leave them out, None to have nothing decided.
            each: whether a person looked at each of them.

        Returns:
            How many photos were changed.

        Raises:
            UserError: a photo is not known, the class cannot be one, or the labels' file is
                damaged.
            OSError: the labels' file cannot be written.
        """
        unknown = [sha256 for sha256 in identities if sha256 not in self.row_of]
        if unknown or not identities:
            raise UserError("The page knows no such photo. Reload it.")
        if name:
            # As it is read from the file.
            name = class_name(name) or name
        with self._lock:
            if name:
                self._check_class(identities, name)
            note = corrections.IN_A_GROUP if len(identities) > 1 and not each else ""
            decision = None if name is None else Decision(name, note)
            changes = self._file.change(dict.fromkeys(identities, decision), self.paths)
            return self._follow(changes, undone=False)

    def undo(self) -> int:
        """Takes the last change back, and returns how many photos that changed.

        Raises:
            UserError: there is nothing to undo, or the labels' file is damaged.
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
            raise UserError(f"There is a class {twins[0]!r} already. Use it, or another name.")
        # The index takes a class that is no folder only from a photo that is in no folder.
        known = {folder for folder in self._folders if folder}
        known |= {
            one.label for sha256, one in self._decided.items() if self._is_in_no_folder(sha256)
        }
        if name not in known and not any(map(self._is_in_no_folder, identities)):
            raise UserError(
                f"No unlabelled photo has the class {name!r}. Give it to one of these first."
            )

    def _is_in_no_folder(self, sha256: str) -> bool:
        row = self.row_of.get(sha256)
        return row is not None and not self._folders[row]

    # The model

    def _snapshot(self) -> tuple[int, np.ndarray]:
        return self._version, self._codes

    def run(self) -> None:
        """Trains whenever there are new labels, until `close`; for a thread of its own."""
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
        # Of near-copies that are to have a label, the first stands for all.
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
        """Returns the identity of every photo, and a name for people."""
        names = (Path(path).name for path in self.photos.paths.tolist())
        shown = (name.encode("utf-8", "replace").decode() for name in names)
        return list(zip(self.identities, shown, strict=True))

    def state(self) -> dict[str, Any]:
        """Returns what is always in sight."""
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
        """Returns the class of every photo: its number, -1 without one, -2 where left out."""
        with self._lock:
            return {"version": self._version, "labels": self._codes.tolist()}

    def view(self, name: str) -> dict[str, Any]:
        """Returns the groups of a view of `views.VIEWS`, with the near-copies of every card."""
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
    """Trains in a thread of its own for the length of the block."""
    thread = threading.Thread(target=session.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        session.close()
        thread.join()
