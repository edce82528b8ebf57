"""Commands to show to the user, with the options of the command that started this run."""

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_SETTINGS = ("--config", "-C")
_FILES = ("--configfile", "--configfiles")
# All options that say what a run works on.
_OPTIONS = {"--snakefile", "-s", "--directory", "-d", "--profile", "--workflow-profile"}
_OPTIONS |= {*_SETTINGS, *_FILES}


def snakemake(arguments: Sequence[str]) -> list[str]:
    """Returns the words of a command that works on the same photos and settings, without targets.

    Further settings can be appended: if there is ``--config``, its values are the last words.

    Args:
        arguments: the command line of this run, without the program name.
    """
    groups: list[list[str]] = []
    for argument in _before_targets(arguments):
        if argument.startswith("-"):
            option, equals, value = argument.partition("=")
            groups.append([option, value] if equals else [option])
        elif groups and (len(groups[-1]) == 1 or groups[-1][0] in (*_SETTINGS, *_FILES)):
            groups[-1].append(argument)
    kept = sorted(
        (group for group in groups if group[0] in _OPTIONS), key=lambda one: one[0] in _SETTINGS
    )
    return [program("snakemake"), "--cores", "all", *(word for group in kept for word in group)]


def targets(arguments: Sequence[str]) -> list[str]:
    """Returns the targets after ``--``."""
    return list(arguments[len(_before_targets(arguments)) + 1 :])


def join(
    words: Sequence[str], settings: Mapping[str, Any] | None = None, targets: Sequence[str] = ()
) -> str:
    """Returns a command as it can be typed.

    Args:
        words: the words that `snakemake` returned.
        settings: settings to add. A key that is among the words keeps the value it has there.
        targets: the targets.

    >>> join(["snakemake", "--config", "seed=1"], {"dataset": "my birds", "seed": 0}, ["bundle"])
    "snakemake --config seed=1 'dataset=my birds' -- bundle"
    """
    words = list(words)
    option = next((i for i, word in enumerate(words) if word in _SETTINGS), len(words))
    given = {word.partition("=")[0] for word in words[option:]}
    added = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in (settings or {}).items()
        if value is not None and key not in given
    ]
    if added and option == len(words):
        words.append("--config")
    return shlex.join([*words, *added, *(["--", *targets] if targets else [])])


def _before_targets(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: list(arguments).index("--")] if "--" in arguments else arguments


def program(name: str) -> str:
    """Returns how to call a program of this environment: its name if the environment is active."""
    if sys.prefix in (os.environ.get("VIRTUAL_ENV"), os.environ.get("CONDA_PREFIX")):
        return name
    return path(Path(sys.executable).with_name(name))


def path(file: str | Path) -> str:
    """Returns a path as it can be typed where the run was started.

    ``--directory`` changes the working directory, so that a relative path may not be valid there.
    """
    file = Path(file).absolute()
    started_here = os.environ.get("PWD", os.getcwd()) == os.getcwd()
    here = Path.cwd()
    return str(file.relative_to(here) if started_here and file.is_relative_to(here) else file)


def python(script: str | Path, *arguments: str) -> str:
    """Returns a command that runs a script in this environment."""
    return shlex.join([program("python"), path(script), *arguments])
