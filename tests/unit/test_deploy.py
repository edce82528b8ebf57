"""What goes to a device: the bundle on a bare machine, and the folder for Frigate."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import yaml
from ai_edge_litert.interpreter import Interpreter as Runtime
from PIL import Image, ImageDraw, features
from sklearn.linear_model import LogisticRegression

from edgetpu_retrain.deploy import frigate
from edgetpu_retrain.deploy.bundle import make
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head, write_label_map
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io.files import sha256
from edgetpu_retrain.photos import preprocessing
from edgetpu_retrain.photos.decode import read_photo
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.tflite import metadata
from edgetpu_retrain.tflite.append_head import append_head
from edgetpu_retrain.tflite.model import Model
from tests import stand_ins
from tests.bare import make_bare_python

ROOT = Path(__file__).parents[2]
LEARNED = 15


@dataclass(frozen=True)
class Classifier:
    """A trained classifier, as the rules before `bundle` and `frigate` leave it."""

    folder: Path
    extractor: Path
    size: tuple[int, int]
    classes: tuple[str, ...]
    manifest: list[Photo]

    @property
    def model(self) -> Path:
        return self.folder / "retrained_model.tflite"

    @property
    def compiled(self) -> Path:
        return self.folder / "retrained_model_edgetpu.tflite"

    @property
    def label_map(self) -> Path:
        return self.folder / "label_map.txt"


def train(extractor: Path, photos: Path, folder: Path) -> Classifier:
    """Learns the first photos of each class; the last three are the manifest's test photos."""
    network = Interpreter(extractor, "cpu")
    classes = tuple(sorted(path.name for path in photos.iterdir() if path.is_dir()))
    found = Classifier(folder, extractor, network.input_size, classes, [])
    vectors, labels = [], []
    for i, name in enumerate(classes):
        paths = sorted((photos / name).iterdir())
        for path in paths[:LEARNED]:
            pixels = preprocessing.to_pixels(read_photo(path.read_bytes()), found.size)
            vectors.append(network.run(pixels))
            labels.append(i)
        found.manifest.extend(Photo(str(p), name, "test", sha256(p)) for p in paths[-3:])
    embeddings = network.quantization.dequantize(np.array(vectors))
    learned = LogisticRegression(C=0.1, max_iter=2000).fit(embeddings, labels)
    weights, biases = learned.coef_.T.astype(np.float32), learned.intercept_.astype(np.float32)
    logits = embeddings @ weights + biases
    head = Head(weights, biases, (float(logits.min()), float(logits.max())), classes)
    write_label_map(classes, found.label_map)
    for twin, path in (("", found.model), ("_edgetpu", found.compiled)):
        model = Model.load(extractor.with_name(f"{extractor.stem}{twin}.tflite"))
        metadata.save_with_class_names(append_head(model, head), classes, path)
    return found


@pytest.fixture(scope="module")
def classifier(made: Path, sample_photos: Path, tmp_path_factory) -> Classifier:
    return train(made / "extractor.tflite", sample_photos, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def flowers(models: Path, photos: Path, tmp_path_factory) -> Classifier:
    """Of real photos and the published extractor."""
    extractor = models / "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"
    return train(extractor, photos, tmp_path_factory.mktemp("flowers"))


@pytest.fixture(scope="module")
def board(classifier: Classifier, tmp_path_factory) -> Path:
    """The folder that the archive unpacks to, where nothing else is."""
    folder = tmp_path_factory.mktemp("written")
    make.write_bundle(
        classifier.model,
        classifier.compiled,
        classifier.label_map,
        classifier.manifest,
        folder / "bundle",
        folder / "bundle.zip",
    )
    empty = tmp_path_factory.mktemp("board")
    with zipfile.ZipFile(folder / "bundle.zip") as archive:
        archive.extractall(empty)
    return empty / "bundle"


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory) -> Path:
    """A Python that has the packages of the bundle's requirements.txt and no other."""
    return make_bare_python(
        tmp_path_factory.mktemp("bare"), Path(make.__file__).with_name("requirements.txt")
    )


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(bare_python: Path, board: Path) -> Run:
    """Runs classify.py on the bare machine, from its folder."""

    def start(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        return subprocess.run(
            [bare_python, "classify.py", *map(str, arguments)],
            cwd=board,
            env=inherited | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return start


@pytest.fixture(scope="module")
def pictures(classifier: Classifier, tmp_path_factory) -> Path:
    """One photo that was not learned, in all forms that photos come in."""
    folder = tmp_path_factory.mktemp("pictures")
    with Image.open(classifier.manifest[0].path) as image:
        photo = image.convert("RGB").resize((320, 240))
    photo.save(folder / "plain.jpg", quality=90)
    # Large enough to be decoded at a fraction of its size.
    photo.resize((2400, 1800), Image.Resampling.BICUBIC).save(folder / "large.jpg")
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.convert("L").save(folder / "grey.png")
    photo.quantize(64).save(folder / "palette.gif")
    grey = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "grey16.png")
    transparent = photo.convert("RGBA")
    alpha = Image.new("L", photo.size, 255)
    ImageDraw.Draw(alpha).ellipse((0, 0, *photo.size), fill=100)
    transparent.putalpha(alpha)
    transparent.save(folder / "transparent.webp", lossless=True)
    photo.quantize(64).save(folder / "keyed.png", transparency=3)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.rotate(90, expand=True).save(folder / "turned.jpg", exif=exif)
    if features.check("avif"):
        photo.save(folder / "modern.avif")
    return folder


def test_only_the_named_packages_are_there(bare_python: Path, board: Path):
    bare = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    for names, there in (
        ("numpy, PIL, ai_edge_litert.interpreter", True),
        ("edgetpu_retrain", False),
        ("sklearn", False),
        ("cv2", False),
    ):
        command = [bare_python, "-c", f"import {names}"]
        done = subprocess.run(command, cwd=board, env=bare, capture_output=True)
        assert (done.returncode == 0) == there, done.stderr


def test_the_same_answers_as_the_library_bit_for_bit(
    run: Run, pictures: Path, classifier: Classifier
):
    done = run(pictures, "--json", "--top_k", str(len(classifier.classes)), "--device", "cpu")
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    paths = sorted(pictures.iterdir())
    assert [result["photo"] for result in results] == [str(path) for path in paths]
    model = Interpreter(classifier.model, "cpu")
    for path, result in zip(paths, results, strict=True):
        photo = read_photo(path.read_bytes(), preprocessing.min_decoded_side(classifier.size))
        expected = model.scores(preprocessing.to_pixels(photo, classifier.size))
        best = (-expected).argsort(kind="stable")
        found = [(entry["name"], entry["score"]) for entry in result["classes"]]
        assert found == [(classifier.classes[i], float(expected[i])) for i in best]
        assert (result["device"], result["milliseconds"] > 0) == ("cpu", True)


def test_the_same_answers_as_classify_image(run: Run, pictures: Path, classifier: Classifier):
    photo = pictures / "large.jpg"
    script = ROOT / "scripts" / "classify_image.py"
    arguments = ["--model", classifier.model, "--input", photo, "--top_k", "5", "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    there = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, env=environment
    )
    here = run(photo, "--top_k", "5")
    assert there.stdout.splitlines()[1:] == here.stdout.splitlines()[1:]
    # No label file was given: the names are those in the model.
    names = [line.strip().split(":")[0] for line in there.stdout.splitlines()[1:]]
    assert set(names) <= set(classifier.classes)


def test_classes_below_the_threshold_are_left_out(run: Run, pictures: Path):
    done = run(pictures / "plain.jpg", "--json", "--top_k", "2")
    first, second = (entry["score"] for entry in json.loads(done.stdout)["classes"])
    done = run(pictures / "plain.jpg", "--top_k", "2", "--threshold", str((first + second) / 2))
    assert re.fullmatch(rf"\S+plain.jpg \(\d+\.\d ms\)\n  \w+: {first:.3f}\n", done.stdout)
    done = run(pictures / "plain.jpg", "--threshold", "1")
    assert "no class reaches 1.0" in done.stdout


def test_folders_within_folders(run: Run, pictures: Path, tmp_path: Path):
    for name in ("b/one.JPG", "a.jpg", ".hidden/two.jpg", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(pictures / "plain.jpg", tmp_path / name)
    results = [json.loads(line) for line in run(tmp_path, "--json").stdout.splitlines()]
    assert [result["photo"] for result in results] == [
        str(tmp_path / name) for name in ("a.jpg", "b/one.JPG")
    ]
    (tmp_path / "empty").mkdir()
    done = run(tmp_path / "empty")
    assert (done.returncode, "there are no photos in this folder" in done.stderr) == (1, True)


def test_a_large_file_is_not_read(run: Run, tmp_path: Path):
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(8_000_000_000)
    done = run(tmp_path / "sparse.jpg")
    assert (done.returncode, "larger than 500 MB" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("target", "message"),
    [("/dev/full", "standard output: No space left on device"), ("", "Standard output is closed")],
)
@pytest.mark.parametrize("arguments", [["check.png"], ["--check"]])
def test_output_that_cannot_be_written(bare_python, board: Path, target, message, arguments):
    redirection = f">{target}" if target else ">&-"
    command = f'"{bare_python}" classify.py {" ".join(arguments)} {redirection}'
    done = subprocess.run(["sh", "-c", command], cwd=board, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(message)
    assert "Traceback" not in done.stderr


def test_photos_are_resized_as_the_model_was_trained(
    classifier: Classifier, bare_python: Path, pictures: Path, tmp_path: Path
):
    """With `resize: nearest`, on the CPU by both programs, and in the bundle's own test."""
    model = Model.load(classifier.model)
    path = tmp_path / "nearest.tflite"
    metadata.save_with_class_names(model, classifier.classes, path, "nearest")
    board = tmp_path / "bundle"
    make.write_bundle(
        path, None, classifier.label_map, classifier.manifest, board, tmp_path / "bundle.zip"
    )
    photo = pictures / "large.jpg"
    with Image.open(photo) as image:
        pixels = np.asarray(image.resize(classifier.size, Image.Resampling.NEAREST))
        averaged = np.asarray(image.resize(classifier.size, Image.Resampling.BILINEAR))
    runtime = Interpreter(classifier.model, "cpu")
    scores = runtime.scores(pixels)
    assert not np.array_equal(scores, runtime.scores(averaged))
    options = ["--top_k", str(len(classifier.classes))]
    done = subprocess.run(
        [bare_python, "classify.py", photo, "--json", *options],
        cwd=board, capture_output=True, text=True,
    )  # fmt: skip
    found = {entry["name"]: entry["score"] for entry in json.loads(done.stdout)["classes"]}
    assert found == dict(zip(classifier.classes, scores.tolist(), strict=True))
    command = [sys.executable, ROOT / "scripts/classify_image.py", "--model", path]
    done = subprocess.run(
        [*command, "--input", photo, *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    lines = [line.strip().rsplit(": ", 1) for line in done.stdout.splitlines()[1:]]
    assert dict(lines) == {name: f"{score:.3f}" for name, score in found.items()}
    check = subprocess.run(
        [bare_python, "classify.py", "--check"], cwd=board, capture_output=True, text=True
    )
    assert "No problems found" in check.stdout


def test_files_that_are_no_photos_stop_nothing(run: Run, pictures: Path, tmp_path: Path):
    broken, empty, apple = (tmp_path / n for n in ("broken.png", "empty.jpg", "IMG.HEIC"))
    pipe, page, raw, endless = (tmp_path / n for n in ("pipe.jpg", "p.jpg", "a.nef", "e.jpg"))
    os.mkfifo(pipe)
    page.write_bytes(b"<!doctype html><html>")
    Image.new("RGB", (160, 120)).save(raw, "TIFF", tiffinfo={254: 1})
    # Pillow takes minutes for what comes after such a start.
    endless.write_bytes(b"\xff\xd8" + b"\xff" * 20_000_000)
    broken.write_bytes((pictures / "grey.png").read_bytes()[:2000])
    empty.touch()
    apple.write_bytes(b"0000ftypheic")
    gone = tmp_path / "gone.jpg"
    given = (broken, empty, apple, gone, pipe, page, raw, endless, pictures / "plain.jpg")
    done = run(*given, "--json")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    reasons = [result.get("error", "") for result in results]
    words = (
        "cannot be decoded",
        "the file is empty",
        "pip install pillow-heif",
        "No such file",
        "not a regular file",
        "a web page (HTML), not a photo",
        "as in camera raw files: export it as JPEG",
        "its JPEG header is damaged",
        "",
    )
    assert all(word in reason for word, reason in zip(words, reasons, strict=True)), reasons
    assert results[-1]["classes"][0]["score"] > 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either photos or folders, or --camera, or --check"),
        (["check.png", "--device", "gpu"], "'gpu' is not one of"),
        (["check.png", "--top_k", "0"], "--top_k must be at least 1"),
        (["check.png", "--threshold", "80"], "--threshold from 0 to 1"),
        (["check.png", "--model", "gone.tflite"], "gone.tflite: there is no such model"),
        (["check.png", "--model", "check.png"], "check.png is not a TFLite model"),
        (["check.png", "--model", "model_edgetpu.tflite"], "run:\n  python classify.py --check"),
        (["check.png", "--device", "usb", "--model", "model.tflite"], "is not compiled for the"),
        (["check.png", "--device", "usb:0"], "The Edge TPU usb:0 cannot be used: libedgetpu"),
        (["check.png", "--labels", "check.png"], "check.png cannot be read as a label file"),
        (["--camera", "0"], "pip install opencv-python-headless"),
    ],
)
def test_mistakes_are_explained(run: Run, arguments, message):
    done = run(*arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_model_is_refused(run: Run, board: Path, tmp_path: Path):
    content = (board / "model.tflite").read_bytes()
    (tmp_path / "short.tflite").write_bytes(content[: len(content) // 2])
    done = run("check.png", "--model", tmp_path / "short.tflite")
    assert (done.returncode, "cannot be loaded" in done.stderr) == (1, True)


def test_the_board_s_test_on_the_cpu(run: Run, board: Path, classifier: Classifier):
    done = run("--check")
    assert done.returncode == 0, done.stdout
    for part in ("numpy ", "Pillow ", "ai-edge-litert ", "OpenCV is not installed"):
        assert part in done.stdout
    assert re.search(r"model\.tflite on the CPU: \w+ 0\.\d+, in .* ms, as expected", done.stdout)
    # The answer in the bundle is that of the runtime, called as its documentation says.
    runtime = Runtime(str(classifier.model))
    runtime.allocate_tensors()
    pixels = np.asarray(Image.open(board / "check.png"))[np.newaxis]
    runtime.set_tensor(runtime.get_input_details()[0]["index"], pixels)
    runtime.invoke()
    scores = runtime.get_tensor(runtime.get_output_details()[0]["index"])[0] / 256
    expected = json.loads((board / "check.json").read_text())
    assert expected["scores"] == dict(zip(classifier.classes, scores.tolist(), strict=True))
    assert expected["class"] == classifier.classes[scores.argmax()]


@pytest.mark.parametrize("part", ["model.tflite", "check.json", "check.py", "file_kinds.py"])
def test_a_bundle_without_one_of_its_parts(bare_python: Path, board: Path, tmp_path: Path, part):
    for path in board.iterdir():
        if path.is_file() and path.name != part:
            (tmp_path / path.name).symlink_to(path)
    # Python takes a link's target for where a program is.
    for name in {path.name for path in board.glob("*.py")} - {part}:
        (tmp_path / name).unlink()
        shutil.copy(board / name, tmp_path)
    command = [bare_python, "classify.py", "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(rf"{part}.*Copy the whole bundle", done.stdout + done.stderr)
    assert "Traceback" not in done.stderr


def answer(board: Path, classifier: Classifier, path: Path) -> str:
    """What an Edge TPU would give to the rest of the model: the CPU extractor's embedding."""
    pixels = np.asarray(Image.open(board / "check.png"))
    Interpreter(classifier.extractor, "cpu").run(pixels).tofile(path)
    return str(path)


def test_an_edge_tpu_that_answers(run: Run, board: Path, classifier: Classifier, tmp_path: Path):
    library = str(stand_ins.edgetpu_library(tmp_path / "library", "answers"))
    recorded = answer(board, classifier, tmp_path / "answer")
    environment = {"LD_LIBRARY_PATH": library, "EDGETPU_ANSWER": recorded}
    done = run("check.png", "--json", **environment)
    assert done.returncode == 0, done.stderr
    expected = json.loads((board / "check.json").read_text())
    result = json.loads(done.stdout)
    assert result["device"] == "usb:0"
    name = expected["class"]
    assert result["classes"] == [{"name": name, "score": expected["scores"][name]}]
    assert "model_edgetpu.tflite on the Edge TPU usb:0" in done.stderr
    done = run("--check", **environment)
    assert done.returncode == 0, done.stdout
    assert "RuntimeVersion(14)" in done.stdout
    found = [line for line in done.stdout.splitlines() if line.endswith("as expected.")]
    assert [line.split(":")[0].strip() for line in found] == [
        "model.tflite on the CPU",
        "model_edgetpu.tflite on the Edge TPU usb",
    ]
    # Another answer than the right one is noticed.
    np.zeros(256, np.uint8).tofile(recorded)
    done = run("--check", **environment)
    assert done.returncode == 1
    assert "Wrong: it should be" in done.stdout


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("refuses", "Another process may be using it"),
        ("crashes", "crashed (SIGSEGV)"),
        ("old", "library is too old for this model"),
    ],
)
def test_an_edge_tpu_that_fails(run: Run, tmp_path: Path, mode, words):
    library = stand_ins.edgetpu_library(tmp_path / "library", mode)
    done = run("--check", LD_LIBRARY_PATH=str(library))
    assert done.returncode == 1
    assert "model.tflite on the CPU" in done.stdout
    (failure,) = [line for line in done.stdout.splitlines() if line.startswith("!")]
    assert failure.startswith("! model_edgetpu.tflite on the Edge TPU usb:0: ")
    assert words in failure
    assert "Traceback" not in done.stdout + done.stderr


def test_a_library_that_is_older_than_the_model(board: Path, check: ModuleType, capsys):
    """Said before the model is tried; the stand-in's package needs runtime 14."""
    assert json.loads((board / "check.json").read_text())["edgetpu_runtime"] == 14
    report = check.Report()
    for version in ("BuildLabel(x), RuntimeVersion(14)", "of unknown version"):
        check._check_runtime(report, version)
    assert report.problems == 0
    check._check_runtime(report, "BuildLabel(x), RuntimeVersion(13)")
    assert report.problems == 1
    assert "! model_edgetpu.tflite needs Edge TPU runtime 14 or later" in capsys.readouterr().out


def test_a_library_without_a_device(run: Run, tmp_path: Path):
    library = stand_ins.edgetpu_library(tmp_path / "library", "absent")
    done = run("--check", LD_LIBRARY_PATH=str(library))
    assert done.returncode == 0
    assert "model_edgetpu.tflite: not tested, because no Edge TPU was found" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("was not tested: no Edge TPU was found.")
    assert "No problems" not in done.stdout
    done = run("check.png", LD_LIBRARY_PATH=str(library))
    assert "model.tflite on the CPU" in done.stderr


@pytest.fixture
def check(board: Path, tmp_path: Path, monkeypatch) -> ModuleType:
    """check.py as a module, on a system whose files lie below tmp_path."""
    monkeypatch.syspath_prepend(board)
    for name in ("check", "classify", "photos", "file_kinds", "jpeg_header"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("check")
    monkeypatch.setattr(module, "SYSTEM", tmp_path)
    monkeypatch.setattr(module.classify, "library_name", lambda: "libedgetpu-none.so.1")
    return module


def test_an_edge_tpu_that_hangs(
    check: ModuleType, board: Path, tmp_path: Path, monkeypatch, capsys
):
    library = stand_ins.edgetpu_library(tmp_path / "library", "hangs")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setattr(check, "TIMEOUT_SECONDS", 2)
    check._test(check.Report(), board / "model_edgetpu.tflite", "usb:0")
    assert (
        "! model_edgetpu.tflite on the Edge TPU usb:0: no answer within 2 seconds"
        in capsys.readouterr().out
    )


def plug_in_usb(system: Path, speed: str = "5000", node: bool = True) -> Path:
    entry = system / "sys/bus/usb/devices/2-1"
    entry.mkdir(parents=True)
    values = ("1a6e", "089a", "2", "7", speed)
    names = ("idVendor", "idProduct", "busnum", "devnum", "speed")
    for name, value in zip(names, values, strict=True):
        (entry / name).write_text(f"{value}\n")
    path = system / "dev/bus/usb/002/007"
    path.parent.mkdir(parents=True)
    if node:
        path.touch()
    return path


def findings(check: ModuleType, capsys) -> str:
    check._check_edge_tpus(check.Report())
    return capsys.readouterr().out


def test_a_device_without_its_library(check: ModuleType, tmp_path: Path, capsys):
    plug_in_usb(tmp_path, speed="480")
    printed = findings(check, capsys)
    assert "! libedgetpu-none.so.1 is not installed" in printed
    assert "This is USB 2" in printed
    assert "not allowed to use" not in printed


def test_a_device_that_one_may_not_use(check: ModuleType, tmp_path: Path, capsys, monkeypatch):
    node = plug_in_usb(tmp_path)
    monkeypatch.setattr(check.os, "access", lambda path, mode: Path(path) != node)
    printed = findings(check, capsys)
    assert "sudo usermod -aG plugdev $USER" in printed
    # Without a rule, also the rules for both identities of the device.
    for vendor in ("1a6e", "18d1"):
        assert f'ATTRS{{idVendor}}=="{vendor}", GROUP="plugdev"' in printed
    rules = tmp_path / "etc/udev/rules.d"
    rules.mkdir(parents=True)
    (rules / "60-libedgetpu1-std.rules").write_text('ATTRS{idVendor}=="1a6e", GROUP="plugdev"')
    assert "idVendor" not in findings(check, capsys)


def test_a_pcie_device_that_one_may_not_use(check: ModuleType, tmp_path: Path, capsys, monkeypatch):
    node = tmp_path / "dev/apex_0"
    node.parent.mkdir()
    node.touch()
    monkeypatch.setattr(check.os, "access", lambda path, mode: Path(path) != node)
    printed = findings(check, capsys)
    assert "sudo groupadd -f apex\n  sudo usermod -aG apex $USER" in printed
    assert 'SUBSYSTEM=="apex", GROUP="apex"' in printed


def test_a_device_that_another_process_has(check: ModuleType, tmp_path: Path, capsys):
    node = plug_in_usb(tmp_path)
    process = tmp_path / "proc/4711"
    (process / "fd").mkdir(parents=True)
    (process / "fd" / "9").symlink_to(node)
    (process / "comm").write_text("frigate.detecto\n")
    assert "! frigate.detecto (process 4711) is using" in findings(check, capsys)


def test_a_device_that_a_container_lacks(check: ModuleType, tmp_path: Path, capsys):
    plug_in_usb(tmp_path, node=False)
    assert "docker run --device /dev/bus/usb" in findings(check, capsys)


def test_a_pcie_device_without_a_driver(check: ModuleType, tmp_path: Path, capsys):
    entry = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    entry.mkdir(parents=True)
    (entry / "vendor").write_text("0x1ac1\n")
    (entry / "device").write_text("0x089a\n")
    assert "has no /dev/apex_0: its driver is missing" in findings(check, capsys)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/apex_0").touch()
    assert "driver is missing" not in findings(check, capsys)


def test_a_machine_without_an_edge_tpu_lacks_nothing(check: ModuleType, capsys):
    printed = findings(check, capsys)
    assert "No Edge TPU was found" in printed
    assert "!" not in printed


def test_a_camera_s_pictures(board: Path, pictures: Path, tmp_path: Path):
    """A video stands in for the camera; OpenCV reads both."""
    frame = cv2.imread(str(pictures / "plain.jpg"))
    height, width = frame.shape[:2]
    video = cv2.VideoWriter(
        str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (width, height)
    )
    for _ in range(3):
        video.write(frame)
    video.release()
    command = [sys.executable, board / "classify.py", "--camera", tmp_path / "v.avi", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 3, done.stderr
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:", result["time"]) for result in results)
    assert all(result["classes"][0]["score"] > 0 for result in results)
    command[3] = tmp_path / "none.avi"
    done = subprocess.run(command, capture_output=True, text=True)
    assert "cannot be opened" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_same_model_gives_the_same_archive(board: Path, classifier: Classifier, tmp_path: Path):
    for name in ("a", "b"):
        make.write_bundle(
            classifier.model,
            None,
            classifier.label_map,
            classifier.manifest,
            tmp_path / name / "bundle",
            tmp_path / f"{name}.zip",
        )
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert not (tmp_path / "a/bundle/model_edgetpu.tflite").exists()


def test_the_files_of_a_bundle_are_named_before_it_is_made(
    board: Path, classifier: Classifier, tmp_path: Path
):
    """The rule names them one by one, so what else lies in the folder is not in the archive."""
    # Other tests run its programs.
    names = {path.name for path in board.iterdir()} - {"__pycache__"}
    assert names == set(make.file_names(compiled=True))
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "notes.txt").write_text("the user's own")
    made = classifier.model, None, classifier.label_map, classifier.manifest
    make.write_bundle(*made, tmp_path / "bundle", tmp_path / "bundle.zip")
    names = {f"bundle/{name}" for name in make.file_names(compiled=False)}
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        assert set(archive.namelist()) == names
    written = {str(path.relative_to(tmp_path)) for path in (tmp_path / "bundle").iterdir()}
    assert written == names | {"bundle/notes.txt"}


def test_frigate_s_calls_give_the_same_classes(flowers: Classifier, photos: Path, tmp_path: Path):
    """What Frigate 0.17 does with the folder, on photos that the model has not seen."""
    folder = tmp_path / "flowers"
    frigate.write_folder(flowers.model, flowers.label_map, "flowers", folder)
    labels = (folder / "labelmap.txt").read_text().splitlines()
    assert labels == list(flowers.classes)
    runtime = Runtime(model_path=str(folder / "model.tflite"), num_threads=2)
    runtime.allocate_tensors()
    ours = Interpreter(flowers.model, "cpu")
    same, correct, count = 0, 0, 0
    for name in flowers.classes:
        for path in sorted((photos / name).iterdir())[LEARNED : LEARNED + 8]:
            rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            resized = cv2.resize(rgb, (224, 224))
            runtime.set_tensor(
                runtime.get_input_details()[0]["index"], np.expand_dims(resized, axis=0)
            )
            runtime.invoke()
            scores = runtime.get_tensor(runtime.get_output_details()[0]["index"])[0]
            probabilities = scores / scores.sum(axis=0)
            assert probabilities.sum() == pytest.approx(1)
            found = labels[int(np.argmax(probabilities))]
            pixels = preprocessing.to_pixels(read_photo(path.read_bytes()), (224, 224))
            same += found == flowers.classes[ours.scores(pixels).argmax()]
            correct += found == name
            count += 1
    # OpenCV resizes without averaging, so single photos may come out otherwise.
    assert same >= 0.9 * count
    assert correct >= 0.7 * count


def test_frigate_s_configuration(flowers: Classifier, tmp_path: Path):
    (tmp_path / "on").mkdir()
    (tmp_path / "on/notes.txt").write_text("the user's own")
    frigate.write_folder(flowers.model, flowers.label_map, "on", tmp_path / "on")
    written = {path.name for path in (tmp_path / "on").iterdir()}
    assert written == {*frigate.FILE_NAMES, "notes.txt"}
    written = yaml.safe_load((tmp_path / "on/config.yml").read_text())
    # Without quotes, YAML would take this name for a truth value.
    model = written["classification"]["custom"]["on"]
    assert (model["name"], model["threshold"]) == ("on", 0.8)
    assert model["object_config"]["classification_type"] == "sub_label"


def test_frigate_cannot_run_other_models(flowers: Classifier, models: Path, tmp_path: Path):
    with pytest.raises(UserError, match="but Frigate runs its classifications on the CPU"):
        frigate.write_folder(flowers.compiled, flowers.label_map, "x", tmp_path / "x")
    small = models / "mobilenet_v1_0.25_128_quant.tflite"
    with pytest.raises(UserError, match=r"takes uint8 \[1, 128, 128, 3\], .* 224 x 224 pixels"):
        frigate.write_folder(small, flowers.label_map, "x", tmp_path / "x")
    assert not (tmp_path / "x").exists()
