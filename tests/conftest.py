"""Photos and models to test with, and how the workflow is run as a user runs it.

Most tests use what is made of the sample once a session; those that compare with published files
need ../shared.
"""

import csv
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from edgetpu_retrain.runtime import devices
from tests.make_models import SAMPLE

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("EDGETPU_RETRAIN_SHARED", ROOT.parent / "shared")).resolve()
_SOURCES = (
    "Snakefile",
    "config.yaml",
    "workflow",
    "scripts",
    "edgetpu_retrain",
    "profiles",
    "sample",
    "tests",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slurm", action="store_true", help="start a Slurm here and run on it")
    parser.addoption(
        "--kills", type=int, default=6, help="how often a run is killed at a random moment"
    )
    parser.addoption("--edits", type=int, default=3, help="how many random edits are made")
    parser.addoption("--seed", type=int, default=0, help="of the random edits")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photos and published models; without it the test is skipped."""
    if not SHARED.is_dir():
        pytest.skip(f"needs real photos and models at {SHARED} (or $EDGETPU_RETRAIN_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def models(shared: Path) -> Path:
    return shared / "models"


@pytest.fixture(scope="session")
def photos(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real flower photos, unpacked: a folder a class."""
    folder = tmp_path_factory.mktemp("photos")
    shutil.unpack_archive(shared / "data" / "flower_photos_1000.tgz", folder)
    return folder / "flower_photos"


@pytest.fixture(scope="session")
def sample_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's photos: a folder per class, without the one that is broken."""
    folder = tmp_path_factory.mktemp("sample") / "photos"
    shutil.unpack_archive(SAMPLE / "photos.zip", folder)
    with (SAMPLE / "planted.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["what"] == "broken":
                (folder / row["path"]).unlink()
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small models made of the sample's network: see `tests.make_models`."""
    if folder := os.environ.get("EDGETPU_RETRAIN_MADE"):
        # Where there is no TensorFlow, made beforehand.
        return Path(folder)
    made = tmp_path_factory.mktemp("made")
    command = [sys.executable, "-m", "tests.make_models", made]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="session")
def float_networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small float networks: see `tests.make_float_networks`."""
    folder = tmp_path_factory.mktemp("float")
    command = [sys.executable, "-m", "tests.make_float_networks", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def copy_project(folder: Path) -> Path:
    """Lays the project's files out in a folder as a fresh clone does, beside ../shared."""
    project = folder / "project"
    project.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in _SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=ignored)
        else:
            shutil.copy(source, project / name)
    if SHARED.is_dir():
        (folder / "shared").symlink_to(SHARED)
    return project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path)


def run_in(
    project: Path, *arguments: str, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command in the project as from a shell with its environment.

    Args:
        project: the working folder.
        arguments: the command; `snakemake` is this environment's.
        path: a folder of programs to be found first.
    """
    folders = [path, Path(sys.executable).parent, os.environ["PATH"]]
    environment = os.environ | {"PATH": os.pathsep.join(str(f) for f in folders if f)}
    return subprocess.run(
        arguments, cwd=project, env=environment, capture_output=True, text=True, timeout=1200
    )


def configure(project: Path, **settings: object) -> None:
    """Changes the project's config.yaml."""
    path = project / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))


def lay_photos(source: Path, folder: Path, count: int, labels: Iterable[str] = ()) -> None:
    """Copies the first photos of each class into a folder.

    Args:
        source: a folder per class.
        folder: where they go, a folder per class too.
        count: how many per class.
        labels: the classes; all where none are named.
    """
    for label in labels or [path.name for path in source.iterdir() if path.is_dir()]:
        (folder / label).mkdir(parents=True)
        for path in sorted((source / label).iterdir())[:count]:
            shutil.copy(path, folder / label)


def small_backbone(made: Path) -> dict[str, str]:
    """The extractor of the sample's network and a stand-in for its compiled twin, as `backbone`."""
    return {
        "name": "small",
        "extractor": str(made / "extractor.tflite"),
        "compiled": str(made / "extractor_edgetpu.tflite"),
    }


Snakemake = Callable[..., subprocess.CompletedProcess[str]]


def run_snakemake(
    project: Path, *arguments: str, **options: Path | None
) -> subprocess.CompletedProcess[str]:
    return run_in(project, "snakemake", "--cores", "2", *arguments, **options)


@pytest.fixture
def snakemake(project: Path) -> Snakemake:
    """Runs Snakemake in the copied project, with its arguments, and returns what it printed."""
    return lambda *arguments, **options: run_snakemake(project, *arguments, **options)


def empty_notes(project: Path) -> None:
    """Empties Snakemake's notes, as a power cut leaves files that were not on the disk yet."""
    notes = [path for path in (project / ".snakemake/metadata").rglob("*") if path.is_file()]
    assert notes
    for note in notes:
        note.write_bytes(b"")


def jobs_run(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The rules that were executed (or listed by a dry run), one entry a job."""
    started = r"^(?:\[\d+/\d+\]|local\w*|rule|checkpoint) (\w+)(?::|$)"
    return sorted(re.findall(started, done.stdout + done.stderr, re.MULTILINE))


def assert_user_error(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """A failed run says all of `parts` and shows no traceback."""
    printed = done.stdout + done.stderr
    assert done.returncode != 0, printed
    for part in parts:
        assert part in printed, printed
    assert "Traceback" not in printed, printed


# A stand-in for libedgetpu: it lists a PCIe and two USB devices, and makes no delegate.
_STAND_IN_LIBRARY = """
#include <stddef.h>
struct device { int type; const char *path; };
static struct device devices[] = {{1, "/sys/a"}, {0, "/dev/apex_0"}, {1, "/sys/b"}};
struct device *edgetpu_list_devices(size_t *count) { *count = 3; return devices; }
void edgetpu_free_devices(struct device *d) {}
void *tflite_plugin_create_delegate(char **k, char **v, size_t n, void (*report)(const char *)) {
    return NULL;
}
void tflite_plugin_destroy_delegate(void *d) {}
"""


@pytest.fixture
def stand_in_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of the Edge TPU that lists devices, usb:0, usb:1 and pci:0, and has none."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler to make the stand-in for libedgetpu")
    (tmp_path / "edgetpu.c").write_text(_STAND_IN_LIBRARY)
    library = tmp_path / "libedgetpu.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "edgetpu.c"], check=True)
    monkeypatch.setattr(devices, "library_name", lambda: str(library))


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the library of the Edge TPU."""
    monkeypatch.setattr(devices, "library_name", lambda: "libedgetpu-that-is-not-there.so")


@pytest.fixture
def serve() -> Iterator[Callable[[Mapping[str, bytes]], tuple[str, dict[str, str]]]]:
    """Serves files on this machine, in place of the public servers.

    Call it with contents by path; it returns the server's address and their MD5s.
    """
    servers = []

    def start(files: Mapping[str, bytes]) -> tuple[str, dict[str, str]]:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                content = files.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        checksums = {path: hashlib.md5(content).hexdigest() for path, content in files.items()}
        return f"http://127.0.0.1:{server.server_port}", checksums

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
