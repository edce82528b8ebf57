"""Find the mistakes in a snakemake command that Snakemake itself meets with a traceback."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from edgetpu_retrain.config import yaml_syntax
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.workflow import interrupt

_SETTINGS = ("--config", "-C")
_FILES = ("--configfile", "--configfiles")
_FILE_SUFFIXES = {".yaml", ".yml", ".json"}


def main() -> None:
    """Ends the program with a sentence where its arguments hold a mistake; profiles call it."""
    interrupt.hide_traceback()
    try:
        check(sys.argv[1:])
    except UserError as error:
        sys.exit(f"Error: {error}")


def check(arguments: Sequence[str]) -> None:
    """Checks what ``--config`` and ``--configfile`` were given, and the syntax of the files.

    Raises:
        UserError: a target stands where they take it for one of theirs, a setting is not in
            quotes, or a file is not there or is not YAML.
    """
    swallowed: list[str] = []
    given: list[str] = []
    option = ""
    for argument in arguments[: _end(arguments)]:
        if argument.startswith("-"):
            option, given = argument, []
            continue
        if option in _SETTINGS and "=" not in argument:
            if given and given[-1].count("{") > given[-1].count("}"):
                raise UserError(
                    f"the setting that begins with {given[-1]!r} has spaces in it: put the whole "
                    "in quotes, as in --config 'backbone={name: mine, tflite: mine.tflite}'"
                )
            swallowed.append(argument)
        elif option in _FILES and given and Path(argument).suffix.lower() not in _FILE_SUFFIXES:
            swallowed.append(argument)
        elif option in _FILES:
            yaml_syntax.check(argument)
        given.append(argument)
    if swallowed:
        raise UserError(_explain(arguments, swallowed))


def _end(arguments: Sequence[str]) -> int:
    return list(arguments).index("--") if "--" in arguments else len(arguments)


def _explain(arguments: Sequence[str], swallowed: Sequence[str]) -> str:
    options = [a for a in arguments[: _end(arguments)] if a not in swallowed]
    targets = [*swallowed, *arguments[_end(arguments) + 1 :]]
    return (
        f"--config and --configfile take all that follows, here {', '.join(swallowed)} too. Put -- "
        f"in front of what is to be made:\n  snakemake {shlex.join([*options, '--', *targets])}"
    )
