"""Where the file of a network is: on disk, or at a URL."""

import os
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from edgetpu_retrain.config.messages import Section, check_braces
from edgetpu_retrain.config.settings import Sha256, Url
from edgetpu_retrain.errors import UserError


class Source(Section):
    """A file, given by a path or by URLs with a checksum.

    In the configuration, a path is a string and URLs are in a mapping.

    Attributes:
        path: path on disk.
        url: one URL, or several, tried in order.
        sha256: SHA-256 checksum of the download.
        git_blob: git blob ID of the download.
        member: name of the file in the archive, if the download is an archive.
    """

    path: str | None = None
    url: Url | tuple[Url, ...] | None = Field(
        default=None, description="an http(s) URL, or a list of URLs"
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
            raise ValueError("neither a path nor a URL")
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs; empty if the file is on disk."""
        return (self.url,) if isinstance(self.url, str) else self.url or ()

    def check_exists(self, key: str, is_folder: bool = False) -> None:
        """Raises a UserError if the path is not an existing file, or folder.

        Args:
            key: key of the configuration, for error messages.
            is_folder: whether the path must be a folder.
        """
        if self.path is None:
            return
        check_braces(key, self.path)
        path = Path(self.path)
        if is_folder and not path.is_dir():
            raise UserError(f"config: {key}: there is no folder {path}.")
        if not is_folder and not path.is_file():
            hint = " For a URL, give {url: ..., sha256: ...}." if "://" in self.path else ""
            raise UserError(f"config: {key}: there is no file {self.path}.{hint}")

    def request(self) -> dict[str, Any]:
        """Returns what `download.fetch` takes beside the output."""
        return {
            "urls": list(self.urls),
            **self.model_dump(include={"sha256", "git_blob", "member"}),
        }

    def checksum(self) -> dict[str, str | None]:
        """Returns the known checksums of the file, as keyword arguments of `download.verify`."""
        if self.path or self.member:
            return {}
        return {"sha256": self.sha256, "git_blob": self.git_blob}
