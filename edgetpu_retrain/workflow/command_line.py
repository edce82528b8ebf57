"""Check a snakemake command for mistakes on which Snakemake itself fails with a traceback."""

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
    """Exits with an error message if the command has mistakes; the profiles call this."""
    interrupt.hide_interrupt_traceback()
    try:
        check(sys.argv[1:])
    except UserError as error:
        sys.exit(f"Error: {error}")


def check(arguments: Sequence[str]) -> None:
    """Checks the values of ``--config`` and ``--configfile``, and the syntax of the files.

    Args:
        arguments: the command line without the program name.

    Raises:
        UserError: a target would be read as a value of these options, a setting with spaces is
            not quoted, or a file does not exist or is not valid YAML.
    """
    captured_targets: list[str] = []
    values: list[str] = []
    option = ""
    for argument in arguments[: _end_of_options(arguments)]:
        if argument.startswith("-"):
            option, values = argument, []
            continue
        if option in _SETTINGS and "=" not in argument:
            if values and values[-1].count("{") > values[-1].count("}"):
                raise UserError(
                    f"the setting that starts with {values[-1]!r} contains spaces. Quote the whole "
                    "setting, as in --config 'backbone={name: mine, tflite: mine.tflite}'"
                )
            captured_targets.append(argument)
        elif option in _FILES and values and Path(argument).suffix.lower() not in _FILE_SUFFIXES:
            captured_targets.append(argument)
        elif option in _FILES:
            yaml_syntax.check(argument)
        values.append(argument)
    if captured_targets:
        raise UserError(_explain(arguments, captured_targets))


def _end_of_options(arguments: Sequence[str]) -> int:
    return list(arguments).index("--") if "--" in arguments else len(arguments)


def _explain(arguments: Sequence[str], captured_targets: Sequence[str]) -> str:
    end = _end_of_options(arguments)
    options = [a for a in arguments[:end] if a not in captured_targets]
    targets = [*captured_targets, *arguments[end + 1 :]]
    return (
        "--config and --configfile take all arguments that follow them, here also "
        f"{', '.join(captured_targets)}. Put -- before the targets:\n"
        f"  snakemake {shlex.join([*options, '--', *targets])}"
    )
