"""Completes the replacement of a model by `learn.py`.

`learn.py` writes all files of the new model to a folder of another name and renames that to
`replacement` when they are on the disk. From then on, the new model counts, even if the program is
killed before every file is in its place: each program of the bundle calls `complete` first.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

FOLDER = "replacement"


def complete(bundle: Path) -> None:
    """Moves the files of a written replacement to their places; does nothing if there is none.

    Several processes may do so at the same time.
    """
    folder = str(bundle / FOLDER)
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(folder)):
            # Another process may have moved it.
            with contextlib.suppress(FileNotFoundError):
                os.replace(os.path.join(folder, name), str(bundle / name))
        os.rmdir(folder)
