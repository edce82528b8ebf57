"""Check a snakemake command for mistakes on which Snakemake itself fails with a traceback."""

import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgetpu_retrain.config import yaml_syntax
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.workflow import interrupt

_SETTINGS = ("--config", "-C")
_FILES = ("--configfile", "--configfiles")
_FILE_SUFFIXES = {".yaml", ".yml", ".json"}
_DIRECTORY = ("--directory", "-d")
# Programs by the options that need one of them.
_DEPLOYMENTS = {
    "conda": ("conda",),
    "apptainer": ("apptainer", "singularity"),
    "singularity": ("apptainer", "singularity"),
}


def main() -> None:
    """Exits with an error message if the command has mistakes; the profiles call this."""
    interrupt.hide_interrupt_traceback()
    try:
        check(sys.argv[1:])
        check_machine(sys.argv[1:])
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


def check_machine(arguments: Sequence[str]) -> None:
    """Checks that the working folder can be written to, and that conda or Apptainer is installed.

    Args:
        arguments: the command line without the program name.

    Raises:
        UserError: it cannot be, or the program that an option asks for is not installed.
    """
    folder, wanted, option = Path(), set[str](), ""
    for argument in arguments[: _end_of_options(arguments)]:
        if argument.startswith("-"):
            option, _, value = argument.partition("=")
            wanted |= {option.removeprefix("--use-")}
        else:
            value = argument
        if option in _DIRECTORY and value:
            folder = Path(value)
        elif option in ("--sdm", "--software-deployment-method", "--deployment-method"):
            wanted |= {value}
    for method in wanted & _DEPLOYMENTS.keys():
        if not any(map(shutil.which, _DEPLOYMENTS[method])):
            raise UserError(
                f"{method} is not installed, or not on the PATH. Install it, or run without it: "
                "the environment of this project has all that the jobs need."
            )
    try:
        if folder.is_dir():
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise UserError(
            f"the folder {folder.absolute()} cannot be written to "
            f"({(error.strerror or str(error)).lower()}). Results, downloads and logs go there: "
            "make it writable, or work in another folder with --directory FOLDER"
        ) from error


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
