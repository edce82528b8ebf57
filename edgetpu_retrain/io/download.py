"""Download a file from the first source that answers, verify it, and only then name it."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pooch
import requests

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import archive, files

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_TIMEOUT_SECONDS = 30


def fetch(
    urls: Sequence[str],
    output: str | Path,
    sha256: str | None = None,
    git_blob: str | None = None,
    md5: str | None = None,
    member: str | None = None,
) -> None:
    """Downloads `output` from the first of `urls` that gives a complete, verified file.

    A download that was cut starts afresh; nothing stands at `output` before it is whole and its
    checksum is right.

    Args:
        urls: http or https addresses of the same file, tried in this order.
        output: where the file goes.
        sha256: its SHA-256 in hexadecimal, or None where it is not known.
        git_blob: its git blob id, for files known by that alone.
        md5: its MD5, likewise.
        member: the name of a file in a .tar archive; the archive is downloaded and verified, and
            this file of it becomes `output`.

    Raises:
        DownloadError: no source gave the file; the text has each source's reason.
    """
    reasons = []
    for url in urls:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with files.replacing(output) as temporary:
                    if attempt == 1:
                        log.info("Downloading %s", url)
                    _download(url, temporary)
                    _compare(temporary, sha256, git_blob, md5)
                    if member is not None:
                        archive.extract_member(temporary, member)
                return
            except UserError as error:
                reasons.append(f"{url}: {error}")
                break
            except (requests.RequestException, OSError) as error:
                reason = _describe(error)
                log.debug("%s: %s (attempt %d of %d)", url, reason, attempt, _ATTEMPTS)
                if attempt == _ATTEMPTS or _is_final(error):
                    reasons.append(f"{url}: {reason}")
                    break
    raise DownloadError(output, reasons)


class DownloadError(UserError):
    """No source gave a file.

    Attributes:
        reasons: what became of each source.
    """

    def __init__(self, output: str | Path, reasons: Sequence[str]):
        self.reasons = list(reasons)
        super().__init__(
            f"Could not download {Path(output).name}.\n  "
            + "\n  ".join(reasons)
            + "\nCheck the network and run again, or fetch the file by hand and put it at "
            f"{output}."
        )


class ChecksumError(UserError):
    """A file is whole but not the one that was asked for."""


def verify(
    path: str | Path,
    sha256: str | None = None,
    git_blob: str | None = None,
    md5: str | None = None,
) -> None:
    """Compares a file, downloaded or put in place by hand, with the checksums known of it.

    Raises:
        ChecksumError: the file has another checksum.
    """
    try:
        _compare(path, sha256, git_blob, md5)
    except ChecksumError as error:
        raise ChecksumError(
            f"{path} is not the file that was asked for: {error}. Delete it and run again."
        ) from None


def _compare(path: str | Path, sha256: str | None, git_blob: str | None, md5: str | None) -> None:
    for name, expected, digest in (
        ("SHA-256", sha256, files.sha256),
        ("git blob id", git_blob, files.git_blob_id),
        ("MD5", md5, files.md5),
    ):
        if expected is not None and (found := digest(path)) != expected.lower():
            raise ChecksumError(f"its {name} is {found}, expected {expected}")


def _download(url: str, path: Path) -> None:
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=_TIMEOUT_SECONDS)
    downloader(url, str(path), None)


def _is_final(error: Exception) -> bool:
    """Whether trying the same address again is pointless: the server answered with a refusal."""
    response = getattr(error, "response", None)
    return response is not None and 400 <= response.status_code < 500


def _describe(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    if isinstance(error, requests.Timeout):
        return f"no answer within {_TIMEOUT_SECONDS} seconds"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut before the file was complete"
    if isinstance(error, requests.ConnectionError):
        return "no connection to the server"
    return str(error)
