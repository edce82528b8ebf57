"""Download a file from the first source that works, and verify it before it gets its name."""

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import pooch
import requests

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import archive, files

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_TIMEOUT_SECONDS = 30
# A server that sends a byte now and then never runs into the timeout.
_CHECK_SECONDS = 60.0
_MIN_BYTES_PER_CHECK = 60_000
_MAX_CHECKS = 12 * 60


def fetch(
    urls: Sequence[str],
    output: str | Path,
    sha256: str | None = None,
    git_blob: str | None = None,
    md5: str | None = None,
    member: str | None = None,
    check: Callable[[Path], None] | None = None,
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
        check: function that raises a `UserError` if the file is not what it should be.

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
                    with _limited(temporary):
                        _download(url, temporary)
                    _verify(temporary, sha256, git_blob, md5)
                    if check is not None:
                        check(temporary)
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


@contextlib.contextmanager
def _limited(path: Path) -> Iterator[None]:
    """Ends a download to `path` that hardly proceeds, or that does not end in 12 hours.

    It does so only in the main thread, where jobs download, because it uses a signal.

    Raises:
        UserError: fewer than 60 kB arrived in a minute, or 12 hours have passed.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return
    sizes = [0]

    def look(_signal: int, _frame: FrameType | None) -> None:
        sizes.append(path.stat().st_size if path.exists() else 0)
        if sizes[-1] - sizes[-2] < _MIN_BYTES_PER_CHECK:
            raise UserError(f"too slow: {sizes[-1]:,} bytes in {len(sizes) - 1} minutes")
        if len(sizes) > _MAX_CHECKS:
            raise UserError(f"not complete after 12 hours ({sizes[-1]:,} bytes)")

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _CHECK_SECONDS, _CHECK_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
