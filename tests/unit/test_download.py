import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import archive, download, files

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """A stand-in for the public servers: /good, /missing, /drip, and files without a length."""

    cuts = 0
    requests = 0

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.closing = threading.Event()
        self.without_length: dict[str, bytes] = {}


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.requests += 1
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path in self.server.without_length:
            self.end_headers()
            self.wfile.write(self.server.without_length[self.path])
            return
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        while self.path == "/drip" and not self.server.closing.wait(0.1):
            self.wfile.write(b"x")
        if self.server.cuts:
            self.server.cuts -= 1
            self.wfile.write(CONTENT[:5000])
        else:
            self.wfile.write(CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()


def url(server: Server, path: str = "/good") -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_a_verified_download(server, tmp_path: Path):
    download.fetch([url(server)], tmp_path / "new" / "file", sha256=SHA256)
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT


def test_a_cut_download_starts_afresh(server, tmp_path: Path):
    server.cuts = 2
    download.fetch([url(server)], tmp_path / "file", sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.requests == 3


def test_a_download_that_is_always_cut_leaves_nothing(server, tmp_path: Path):
    server.cuts = 99
    with pytest.raises(UserError, match="lost before the file was complete"):
        download.fetch([url(server)], tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_checksum_leaves_nothing(server, tmp_path: Path):
    with pytest.raises(UserError, match=f"SHA-256 is {SHA256}, expected {'0' * 64}"):
        download.fetch([url(server)], tmp_path / "file", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_the_next_source_is_tried(server, tmp_path: Path):
    dead = "http://127.0.0.1:1/file"
    download.fetch([url(server, "/missing"), dead, url(server)], tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_every_source_and_its_reason_are_named(server, tmp_path: Path):
    dead = "http://127.0.0.1:1/file"
    with pytest.raises(UserError) as error:
        download.fetch([url(server, "/missing"), dead], tmp_path / "file")
    assert f"{url(server, '/missing')}: the server responded with 404 Not Found" in str(error.value)
    assert f"{dead}: cannot connect" in str(error.value)
    assert str(tmp_path / "file") in str(error.value)


@pytest.mark.parametrize(
    ("content", "blob"),
    [
        # What `git hash-object` prints for an empty file, and for one that says hello world.
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        (b"hello world\n", "3b18e512dba79e4c8300dd08aeb37f8e728b8dad"),
    ],
)
def test_the_git_blob_id_is_git_s(tmp_path: Path, content, blob):
    (tmp_path / "file").write_bytes(content)
    assert files.git_blob_id(tmp_path / "file") == blob


def test_the_facts_of_a_published_file(models: Path):
    path = models / "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite"
    download.verify(
        path,
        sha256="33a249155302975d7e28f72a5250903cdf7f7afb7bd1ceec3d2cd8ca9ce6a609",
        git_blob="e9f89b94e822a4a56989179a10abc22f0c0f24b9",
    )
    with pytest.raises(download.ChecksumError, match="git blob id"):
        download.verify(path, git_blob="0" * 40)


def tar_of(count: int) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for i in range(count):
            info = tarfile.TarInfo(f"birds/tit/{i}.jpg")
            info.size = len(CONTENT)
            tar.addfile(info, io.BytesIO(CONTENT))
    return packed.getvalue()


TAR = tar_of(20)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!DOCTYPE html>\n<html><body>Please log in</body></html>", "sent a web page"),
        (TAR[:-3000], "is incomplete"),
        (b"PK\x03\x04 and the rest is missing", "is incomplete"),
        (b"not found", "not a .tar, .tgz or .zip"),
    ],
)
def test_what_is_no_archive_leaves_nothing(server, tmp_path: Path, content: bytes, reason: str):
    server.without_length["/birds.tgz"] = content
    with pytest.raises(UserError, match=reason):
        download.fetch(
            [url(server, "/birds.tgz")], tmp_path / "archive", check=archive.check_complete
        )
    assert list(tmp_path.iterdir()) == []


def test_a_whole_archive_without_a_length_is_taken(server, tmp_path: Path):
    server.without_length["/birds.tgz"] = TAR
    address = url(server, "/birds.tgz")
    download.fetch([address], tmp_path / "archive", check=archive.check_complete)
    assert (tmp_path / "archive").read_bytes() == TAR


def test_a_download_that_hardly_proceeds_is_ended(server, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(download, "_CHECK_SECONDS", 0.5)
    with pytest.raises(UserError, match="too slow"):
        download.fetch([url(server, "/drip")], tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
