"""Commands of the library: `python -m edgetpu_retrain learn BUNDLE PHOTOS`."""

import sys

from edgetpu_retrain.deploy import learn_command

_USAGE = """\
usage: python -m edgetpu_retrain learn BUNDLE PHOTOS

learn    teach the model of a bundle new photos, on this machine
"""


def main() -> None:
    """Runs the command line."""
    if sys.argv[1:2] != ["learn"]:
        sys.exit(_USAGE)
    learn_command.main(None, sys.argv[2:], "python -m edgetpu_retrain learn")


if __name__ == "__main__":
    main()
