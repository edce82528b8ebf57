#!/usr/bin/env python3
"""Teach the model in this folder: new classes, or more photos of those that it has.

    python3 learn.py photos
    python3 learn.py --camera 0 --label robin --count 50

It needs Python 3.11 or later and the packages in requirements-learn.txt. The program itself is in
edgetpu_retrain.zip.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
INSTALL = f"{Path(sys.executable).name} -m pip install -r {HERE / 'requirements-learn.txt'}"

if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit(
            "learn.py needs Python 3.11 or later. classify.py runs on this one, too: learn on "
            "another machine, and copy this folder back."
        )
    sys.path.insert(0, str(HERE / "edgetpu_retrain.zip"))
    try:
        from edgetpu_retrain.deploy import learn_command
    except ImportError as error:
        sys.exit(f"{error}. Run:\n  {INSTALL}")
    learn_command.main(HERE, sys.argv[1:])
