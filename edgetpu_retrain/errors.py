"""Errors that the user can fix."""


class UserError(Exception):
    """An error that the user can fix; the message says what is wrong, where, and what to do.

    Scripts print only the message, without a traceback.
    """


class NoPhotosLeftError(UserError):
    """The network was fine-tuned on all photos, so none are left to cross-validate on."""


def how_to_install(extras: str) -> str:
    """Returns a sentence that says how to install extras of pyproject.toml.

    >>> how_to_install("label")
    "In the project's folder, type: pip install -c requirements.txt -e '.[label]'"
    """
    return f"In the project's folder, type: pip install -c requirements.txt -e '.[{extras}]'"
