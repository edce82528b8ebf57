"""Where the file of a network comes from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetpu_retrain.config import configuration
from edgetpu_retrain.errors import UserError

FILE = {
    "description": "a path, or a mapping with url and its checksum (sha256 or git_blob)",
    "type": ["string", "object"],
    "additionalProperties": False,
    "required": ["url"],
    "properties": {
        "url": {
            "description": "an http(s) address, or a list of them",
            "type": ["string", "array"],
            "pattern": "^https?://",
            "items": {"type": "string", "pattern": "^https?://"},
        },
        "sha256": {
            "description": "64 hexadecimal digits in quotes",
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
        },
        "git_blob": {
            "description": "40 hexadecimal digits in quotes",
            "type": "string",
            "pattern": "^[0-9a-f]{40}$",
        },
        "member": {"description": "the name of the file in the archive at url", "type": "string"},
    },
}


@dataclass(frozen=True)
class Source:
    """A file: at a path, or at addresses with a checksum.

    Attributes:
        path: where it is on disk.
        urls: addresses of it, tried in this order.
        sha256: its checksum.
        git_blob: its git blob id.
        member: its name in the archive that the addresses and checksums are of.
    """

    path: str | None = None
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    git_blob: str | None = None
    member: str | None = None

    @classmethod
    def parse(cls, entry: str | Mapping[str, Any], key: str, is_folder: bool = False) -> "Source":
        """Reads the entry of a file, or of a folder; `key` names it in messages.

        Raises:
            UserError: it is a path where there is no file, or no folder.
        """
        if not isinstance(entry, str):
            urls = entry["url"]
            rest = {name: value for name, value in entry.items() if name != "url"}
            return cls(urls=(urls,) if isinstance(urls, str) else tuple(urls), **rest)
        path = os.path.expanduser(entry)
        configuration.check_braces(key, path)
        if is_folder and not Path(path).is_dir():
            raise UserError(f"config: {key}: there is no folder {path}.")
        if not is_folder and not Path(path).is_file():
            hint = " For an address give {url: ..., sha256: ...}." if "://" in path else ""
            raise UserError(f"config: {key}: there is no file {path}.{hint}")
        return cls(path=path)

    def checksum(self) -> dict[str, str | None]:
        """Returns what is known of the downloaded file itself, as `download.verify` takes it."""
        if self.path or self.member:
            return {}
        return {"sha256": self.sha256, "git_blob": self.git_blob}
