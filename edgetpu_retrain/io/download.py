"""Download a file from the first source that works, and verify it before it gets its name."""

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
    """Downloads `output` from the first of `urls` that serves a complete, verified file.

    An interrupted download is restarted from the beginning. `output` only comes into existence once
    the file is complete and its checksums match.

    Args:
        urls: http or https URLs of the same file, tried in this order.
        output: path of the file to write.
        sha256: SHA-256 in hexadecimal, or None if unknown.
        git_blob: git blob id in hexadecimal, or None if unknown.
        md5: MD5 in hexadecimal, or None if unknown.
        member: name of a file in a .tar archive. The checksums are those of the archive; only this
            file is extracted to `output`.

    Raises:
        DownloadError: every source failed; the message gives the reason for each.
    """
    reasons = []
    for url in urls:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with files.replacing(output) as temporary:
                    if attempt == 1:
                        log.info("Downloading %s", url)
                    _download(url, temporary)
                    _verify(temporary, sha256, git_blob, md5)
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
    """A file could not be downloaded from any source.

    Attributes:
        reasons: why each source failed.
    """

    def __init__(self, output: str | Path, reasons: Sequence[str]):
        self.reasons = list(reasons)
        super().__init__(
            f"Could not download {Path(output).name}.\n  "
            + "\n  ".join(reasons)
            + "\nCheck your network connection and run again, or download the file yourself and "
            f"save it as {output}."
        )


class ChecksumError(UserError):
    """A file's checksum does not match the expected one."""


def verify(
    path: str | Path,
    sha256: str | None = None,
    git_blob: str | None = None,
    md5: str | None = None,
) -> None:
    """Verifies the checksums of a file that was downloaded or put in place by hand.

    Args:
        path: path of the file.
        sha256: SHA-256 in hexadecimal, or None if unknown.
        git_blob: git blob id in hexadecimal, or None if unknown.
        md5: MD5 in hexadecimal, or None if unknown.

    Raises:
        ChecksumError: a checksum does not match.
    """
    try:
        _verify(path, sha256, git_blob, md5)
    except ChecksumError as error:
        raise ChecksumError(
            f"{path} is not the expected file: {error}. Delete it and run again."
        ) from None


def _verify(path: str | Path, sha256: str | None, git_blob: str | None, md5: str | None) -> None:
    for name, expected, digest in (
        ("SHA-256", sha256, files.sha256),
        ("git blob id", git_blob, files.git_blob_id),
        ("MD5", md5, files.md5),
    ):
        if expected is not None and (actual := digest(path)) != expected.lower():
            raise ChecksumError(f"its {name} is {actual}, expected {expected}")


def _download(url: str, path: Path) -> None:
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=_TIMEOUT_SECONDS)
    downloader(url, str(path), None)


def _is_final(error: Exception) -> bool:
    """Returns whether retrying is pointless because the server rejected the request (4xx)."""
    response = getattr(error, "response", None)
    return response is not None and 400 <= response.status_code < 500


def _describe(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server responded with {response.status_code} {response.reason}"
    if isinstance(error, requests.Timeout):
        return f"no response within {_TIMEOUT_SECONDS} seconds"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was lost before the file was complete"
    if isinstance(error, requests.ConnectionError):
        return "cannot connect to the server"
    return str(error)
