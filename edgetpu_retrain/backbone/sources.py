"""Where the file of a network comes from."""

import os
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from edgetpu_retrain.config.messages import Section, check_braces
from edgetpu_retrain.config.settings import Address, Sha256
from edgetpu_retrain.errors import UserError


class Source(Section):
    """A file: at a path, or at addresses with a checksum.

    The configuration has a path as text, and addresses as a mapping.

    Attributes:
        path: where it is on disk.
        url: an address of it, or several, tried in this order.
        sha256: its checksum.
        git_blob: its git blob id.
        member: its name in the archive that the addresses and checksums are of.
    """

    path: str | None = None
    url: Address | tuple[Address, ...] | None = Field(
        default=None, description="an http(s) address, or a list of them"
    )
    sha256: Sha256 | None = Field(default=None, description="64 hexadecimal digits in quotes")
    git_blob: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{40}\Z", description="40 hexadecimal digits in quotes"
    )
    member: str | None = Field(
        default=None, description="the name of the file in the archive at url"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, given: Any) -> Any:
        return {"path": os.path.expanduser(given)} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("neither a path nor an address")
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses; none where it is on disk."""
        return (self.url,) if isinstance(self.url, str) else self.url or ()

    def check_exists(self, key: str, is_folder: bool = False) -> None:
        """Raises a UserError where it is a path with no file, or no folder.

        Args:
            key: of the configuration, for messages.
            is_folder: whether it should be a folder.
        """
        if self.path is None:
            return
        check_braces(key, self.path)
        path = Path(self.path)
        if is_folder and not path.is_dir():
            raise UserError(f"config: {key}: there is no folder {path}.")
        if not is_folder and not path.is_file():
            hint = " For an address give {url: ..., sha256: ...}." if "://" in self.path else ""
            raise UserError(f"config: {key}: there is no file {self.path}.{hint}")

    def checksum(self) -> dict[str, str | None]:
        """Returns what is known of the downloaded file itself, as `download.verify` takes it."""
        if self.path or self.member:
            return {}
        return {"sha256": self.sha256, "git_blob": self.git_blob}
