"""A bundle's model, trained again on the device with new photos."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.deploy import camera, learn_command
from edgetpu_retrain.deploy import learn as learning
from edgetpu_retrain.deploy.bundle import make
from edgetpu_retrain.deploy.bundle.complete import complete
from edgetpu_retrain.deploy.learn import Lesson, learn
from edgetpu_retrain.deploy.stored_embeddings import ClassMeans, Settings, StoredEmbeddings
from edgetpu_retrain.embeddings.embed import embed
from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head, write_label_map
from edgetpu_retrain.index import scan
from edgetpu_retrain.index.identity_cache import IdentityCache
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.tflite import metadata
from edgetpu_retrain.tflite.append_head import append_head
from edgetpu_retrain.tflite.last_layer import read_head, without_head
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import truncate
from edgetpu_retrain.training import recipes
from tests import models as look
from tests import stand_ins
from tests.conftest import ROOT, lay_photos

KNOWN, NEW = ("bellflower", "daisy", "dandelion", "rose"), "tulip"
MODELS = ("model.tflite", "model_edgetpu.tflite")
SETTINGS = Settings({"recipe": "optimum"}, seed=0, validation=0.1, test=0.1)


def train_as_the_workflow(
    photos: Path, extractor: Path, none: bool
) -> tuple[list[Photo], Path, recipes.TrainingResult]:
    """Indexes, embeds and trains; also returns the file of embeddings."""
    cache = IdentityCache(photos.with_suffix(".cache"))
    found = scan.scan(photos, cache, SETTINGS.validation, SETTINGS.test).photos
    shard = photos.with_suffix(".npz")
    embed({p.sha256: p.path for p in sorted(found, key=lambda p: p.sha256)}, extractor).save(shard)
    labelled = LabelledEmbeddings.load([shard], found)
    return found, shard, recipes.train(labelled, "optimum", seed=0, none=none)


def write_bundle(
    photos: Path, made: Path, folder: Path, with_embeddings: bool = True, none: bool = False
) -> Path:
    """Writes the bundle of a model that was trained on the photos."""
    found, shard, trained = train_as_the_workflow(photos, made / "extractor.tflite", none)
    folder.mkdir()
    classes = trained.head.classes
    for name in MODELS:
        twin = name.replace("model", "extractor")
        classifier = append_head(Model.load(made / twin), trained.head)
        metadata.save_with_class_names(classifier, classes, folder / name)
    write_label_map(classes, folder / "label_map.txt")
    settings = replace(SETTINGS, none=none)
    stored = StoredEmbeddings.of_run([shard], found, settings, trained.out_of_fold(), classes)
    make.write_bundle(
        *(folder / name for name in (*MODELS, "label_map.txt")),
        found,
        folder / "bundle",
        folder / "bundle.zip",
        stored if with_embeddings else ClassMeans.of(stored, KNOWN, False),
    )
    return folder / "bundle"


@pytest.fixture(scope="module")
def taught(made: Path, sample_photos: Path, tmp_path_factory) -> tuple[Path, Path]:
    """Bundles of a model of four classes, with and without embeddings."""
    folder = tmp_path_factory.mktemp("taught")
    lay_photos(sample_photos, folder / "photos", 30, KNOWN)
    with_embeddings = write_bundle(folder / "photos", made, folder / "with")
    return with_embeddings, write_bundle(folder / "photos", made, folder / "without", False)


@pytest.fixture
def bundle(taught: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(taught[0], tmp_path / "bundle"))


@pytest.fixture
def without_embeddings(taught: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(taught[1], tmp_path / "bundle"))


@pytest.fixture(scope="module")
def photos(sample_photos: Path, tmp_path_factory) -> Path:
    """Twenty photos of a class that the model does not have, and ten more of one that it has."""
    folder = tmp_path_factory.mktemp("new") / "photos"
    lay_photos(sample_photos, folder, 20, [NEW])
    (folder / "daisy").mkdir()
    for path in sorted((sample_photos / "daisy").iterdir())[-10:]:
        shutil.copy(path, folder / "daisy")
    return folder


def contents(bundle: Path) -> dict[str, bytes]:
    """The files that a model consists of."""
    names = [*MODELS, "labels.txt", "check.json", "embeddings.npz"]
    return {name: (bundle / name).read_bytes() for name in names}


def predicted(bundle: Path, paths: list[Path], model: str = "model.tflite") -> list[str]:
    """What the runtime alone says of photos, with the names in labels.txt."""
    names = [line.split(" ", 1)[1] for line in (bundle / "labels.txt").read_text().splitlines()]
    runtime = look.runtime((bundle / model).read_bytes())
    found = []
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((96, 96), Image.Resampling.BILINEAR))
        found.append(names[int(look.invoke(runtime, pixels).argmax())])
    return found


def compiled_operator(path: Path) -> bytes:
    return bytes(look.unpack(path.read_bytes()).subgraphs[0].operators[0].customOptions)


def test_the_files_are_those_of_a_run_with_all_photos(
    bundle: Path, photos: Path, taught: tuple[Path, Path], made: Path, tmp_path: Path
):
    package = compiled_operator(bundle / "model_edgetpu.tflite")
    lesson = learn(bundle, photos)
    assert (lesson.photos, lesson.new_classes) == (30, (NEW,))
    both = tmp_path / "both"
    shutil.copytree(taught[0].parents[1] / "photos", both)
    shutil.copytree(bundle / "learned", both, dirs_exist_ok=True)
    again = write_bundle(both, made, tmp_path / "again")
    for name in (*MODELS, "labels.txt", "embeddings.npz"):
        assert (bundle / name).read_bytes() == (again / name).read_bytes(), name
    assert compiled_operator(bundle / "model_edgetpu.tflite") == package
    # The same operators: the photos of the class that is new are told from the others.
    assert predicted(bundle, sorted((photos / NEW).iterdir())).count(NEW) >= 18
    with Image.open(bundle / "check.png") as picture:
        runtime = look.runtime((bundle / "model.tflite").read_bytes())
        scores = look.invoke(runtime, np.asarray(picture))[0] / 256
    answer = json.loads((bundle / "check.json").read_text())
    assert answer["scores"] == dict(zip((*KNOWN, NEW), scores.tolist(), strict=True))
    assert answer["edgetpu_runtime"] == 14


def test_the_class_none_is_made_again(
    photos: Path, taught: tuple[Path, Path], made: Path, tmp_path: Path
):
    known, both = taught[0].parents[1] / "photos", tmp_path / "both"
    bundle = write_bundle(known, made, tmp_path / "known", none=True)
    assert learn(bundle, photos).new_classes == (NEW,)
    shutil.copytree(known, both)
    shutil.copytree(bundle / "learned", both, dirs_exist_ok=True)
    again = write_bundle(both, made, tmp_path / "again", none=True)
    for name in (*MODELS, "labels.txt", "embeddings.npz"):
        assert (bundle / name).read_bytes() == (again / name).read_bytes(), name
    assert (bundle / "labels.txt").read_text().endswith(f"4 {NEW}\n5 none\n")
    # That was made of embeddings, so it cannot be changed without them.
    without = write_bundle(known, made, tmp_path / "without", with_embeddings=False, none=True)
    shutil.copytree(photos / NEW, tmp_path / "only" / NEW)
    with pytest.raises(UserError, match="class none for other things"):
        learn(without, tmp_path / "only")


def test_photos_without_a_label_are_not_learned_from_again(
    bundle: Path, photos: Path, tmp_path: Path, caplog
):
    """Nothing is known of them on the device; the model is as if there had been none."""
    caplog.set_level("INFO")
    other = shutil.copytree(bundle, tmp_path / "other")
    assert learn(bundle, photos).new_classes == (NEW,)
    assert "photos without a label" not in caplog.text
    path = other / StoredEmbeddings.FILE_NAME
    stored = StoredEmbeddings.load(path)
    replace(stored, settings=replace(stored.settings, pseudo_labels=True)).save(path)
    learn(other, photos)
    assert "photos without a label (pseudo_labels). These are not in the bundle" in caplog.text
    for name in (*MODELS, "labels.txt", "embeddings.npz"):
        assert (bundle / name).read_bytes() == (other / name).read_bytes(), name


def test_the_old_files_are_kept(bundle: Path, photos: Path):
    before = contents(bundle)
    learn(bundle, photos)
    for name, content in before.items():
        assert (bundle / f"{name}.previous").read_bytes() == content
        assert (bundle / name).read_bytes() != content
    assert not (bundle / "replacement").exists()


def test_photos_that_are_known_change_nothing(bundle: Path, photos: Path):
    learn(bundle, photos)
    before = contents(bundle)
    for folder in (photos, bundle / "learned"):
        assert learn(bundle, folder) is None
    assert contents(bundle) == before


def test_a_photo_in_another_class_is_a_correction(bundle: Path, photos: Path, tmp_path: Path):
    learn(bundle, photos)
    wrong = sorted((photos / NEW).iterdir())[0]
    (tmp_path / "right/daisy").mkdir(parents=True)
    shutil.copy(wrong, tmp_path / "right/daisy")
    lesson = learn(bundle, tmp_path / "right")
    assert (lesson.photos, lesson.new_classes) == (1, ())
    stored = StoredEmbeddings.load(bundle / "embeddings.npz")
    assert len(stored.photos) == len({photo.sha256 for photo in stored.photos}) == 4 * 30 + 30
    assert len(list((bundle / f"learned/{NEW}").iterdir())) == 19
    assert len(list((bundle / "learned/daisy").iterdir())) == 11


def test_the_summary_compares_the_same_photos(bundle: Path, photos: Path, capsys):
    known = StoredEmbeddings.load(bundle / "embeddings.npz")
    learn_command.main(bundle, [str(photos)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 12
    stored = StoredEmbeddings.load(bundle / "embeddings.npz")
    is_known = {photo.sha256 for photo in known.photos}
    trained = [photo for photo in stored.photos if photo.split != "test"]
    new = [photo for photo in trained if photo.sha256 not in is_known]
    assert lines[0] == (
        f"Learned 30 new photos, with the new class {NEW}. {30 - len(new)} of them are held out "
        "for testing, as in the workflow."
    )
    of_daisy = sum(photo.label == "daisy" and photo.sha256 in is_known for photo in trained)
    accuracy = r"[\d.]+%"
    for row in (
        rf"photos so far +{accuracy} of \d+ +{accuracy} of {len(trained) - len(new)}",
        rf"  daisy +{accuracy} of {of_daisy} +{accuracy} of {of_daisy}",
        rf"  {NEW} +- +{accuracy} of {sum(photo.label == NEW for photo in trained)}",
        rf"new photos +{accuracy} of {len(new)} +{accuracy} of {len(new)}",
    ):
        assert any(re.fullmatch(row, line) for line in lines), (row, lines)
    # What is stored, for the next time, counts all photos.
    assert sum(count for _, count in stored.results.values()) == len(trained)
    learn_command.main(bundle, [str(photos)])
    assert "knows all of these photos already" in capsys.readouterr().out


def test_of_many_classes_those_that_changed_are_shown():
    before = {f"class {i}": (5, 10) for i in range(30)}
    after = before | {"class 7": (9, 10), "new": (4, 5)}
    lines = learn_command.summary(Lesson(5, 5, ("new",), 4, 0, before, after), Path("bundle"))
    assert len(lines) <= 15
    assert any(re.fullmatch(r"  class 7 +50.0% of 10 +90.0% of 10", line) for line in lines)
    assert any(line.startswith("  and 24 more classes") for line in lines)


def killed_at(bundle: Path, number: int) -> bool:
    """Replaces the model in a process that is killed at the n-th renaming; False if it ended."""
    pid = os.fork()
    if not pid:
        done = iter(range(number))
        rename = os.replace

        def counted(source, target, **options):
            if next(done, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, target, **options)

        os.replace = os.rename = counted
        stored = StoredEmbeddings.load(bundle / "embeddings.npz")
        head = Head(np.zeros((256, 2), np.float32), np.zeros(2, np.float32), (0, 1), ("a", "b"))
        learning._replace(bundle, [], head, stored)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def test_killed_at_any_moment_it_leaves_one_whole_model(taught: tuple[Path, Path], tmp_path: Path):
    old = contents(taught[0])
    outcomes = []
    for number in range(100):
        bundle = Path(shutil.copytree(taught[0], tmp_path / str(number)))
        was_killed = killed_at(bundle, number)
        # Each program of the bundle does this first.
        complete(bundle)
        found = contents(bundle)
        is_new = found["labels.txt"] == b"0 a\n1 b\n"
        for name in (*MODELS, "labels.txt", "check.json"):
            assert (found[name] != old[name]) == is_new, (number, name)
        if is_new:
            previous = {name: (bundle / f"{name}.previous").read_bytes() for name in old}
            assert previous == old
        outcomes.append(is_new)
        # Nothing that was left over is in the way.
        assert not killed_at(bundle, 10**6)
        assert not list(bundle.glob(".*"))
        if not was_killed:
            break
    assert outcomes == sorted(outcomes)
    assert {False, True} == set(outcomes)
    assert len(outcomes) > 10


def test_classify_completes_what_was_interrupted(bundle: Path, photos: Path):
    before = contents(bundle)
    learn(bundle, photos)
    after = contents(bundle)
    (bundle / "replacement").mkdir()
    for name, content in before.items():
        (bundle / "replacement" / name).write_bytes(content)
    # As if two of them had been moved already.
    for name in list(before)[:2]:
        (bundle / "replacement" / name).replace(bundle / name)
    assert contents(bundle) not in (before, after)
    command = [sys.executable, bundle / "classify.py", bundle / "check.png", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(bundle) == before


def test_a_class_is_added_without_embeddings(
    without_embeddings: Path, photos: Path, sample_photos: Path, tmp_path: Path
):
    bundle = without_embeddings
    with pytest.raises(UserError, match=r"has daisy already.*bundle: \{embeddings: true\}"):
        learn(bundle, photos)
    shutil.copytree(photos / NEW, tmp_path / "only" / NEW)
    others = sorted(path for name in KNOWN for path in (sample_photos / name).iterdir())[::4]
    right = [path.parent.name for path in others]
    before = np.mean(np.array(predicted(bundle, others)) == right)
    models = [look.unpack((bundle / name).read_bytes()) for name in MODELS]
    lesson = learn(bundle, tmp_path / "only")
    assert (lesson.photos, lesson.new_classes, lesson.after) == (20, (NEW,), {})
    for name, old in zip(MODELS, models, strict=True):
        new = look.unpack((bundle / name).read_bytes())
        for suffix, dtype in (("weights", np.uint8), ("biases", np.int32)):
            one, other = (
                next(
                    (look.values(model, i, dtype), tensor.quantization)
                    for i, tensor in enumerate(model.subgraphs[0].tensors)
                    if tensor.name == f"head/{suffix}".encode()
                )
                for model in (old, new)
            )
            assert len(other[0]) == len(KNOWN) + 1
            assert np.array_equal(one[0], other[0][: len(KNOWN)])
            assert one[1].scale == pytest.approx(other[1].scale, rel=1e-6)
    # Photos that were not learned.
    unseen = sorted((sample_photos / NEW).iterdir())[20:]
    assert np.mean(np.array(predicted(bundle, unseen)) == NEW) >= 0.6
    assert np.mean(np.array(predicted(bundle, others)) == right) >= before - 0.1
    assert ClassMeans.load(bundle / "class_means.npz").classes == (*KNOWN, NEW)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("name", ["extractor", "extractor_edgetpu", "int8"])
def test_a_head_is_taken_off_and_read(made: Path, name: str, normalized: bool):
    content = (made / f"{name}.tflite").read_bytes()
    if name == "int8":
        content = truncate(Model.parse(content, name)).to_bytes()
    extractor = Model.parse(content, name)
    width = extractor.outputs[0].shape[-1]
    draw = np.random.default_rng(0)
    head = Head(
        draw.normal(0, 0.1, (width, 3)).astype(np.float32),
        draw.normal(0, 1, 3).astype(np.float32),
        (-5.0, 7.0),
        ("a", "b", "c"),
        normalized=normalized,
    )
    classifier = metadata.with_class_names(append_head(extractor, head), head.classes)
    parsed = Model.parse(classifier, name)
    taken_off = without_head(parsed)
    assert taken_off.operators == extractor.operators
    assert taken_off.outputs == extractor.outputs
    found = read_head(parsed, head.classes)
    assert found.normalized == normalized
    assert np.abs(found.weights - head.weights).max() < np.ptp(head.weights) / 250
    assert metadata.with_class_names(append_head(taken_off, found), head.classes) == classifier


def lay_out(folder: Path, *paths: str) -> Path:
    for number, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((96, 96, 3), number * 20, np.uint8)
        Image.fromarray(pixels).save(folder / path)
    return folder


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "does not exist"),
        (("a.png",), r"contains no photos in class folders.*new/robin/photo\.jpg"),
        (("robin/a.png", "robin/b.png"), "at least 3 readable photos, but 'robin' has 2"),
        (("Daisy/a.png",), "two classes whose names look the same"),
    ],
)
def test_what_cannot_be_learned_is_explained(bundle: Path, tmp_path: Path, files, message):
    before = contents(bundle)
    with pytest.raises(UserError, match=message):
        learn(bundle, lay_out(tmp_path / "new", *files))
    assert contents(bundle) == before


def test_the_same_photo_in_two_classes(bundle: Path, tmp_path: Path):
    folder = lay_out(tmp_path / "new", "robin/a.png")
    shutil.copytree(folder / "robin", folder / "wren")
    with pytest.raises(UserError, match=r"robin/a\.png and .*wren/a\.png are the same photo"):
        learn(bundle, folder)


def test_files_that_are_no_photos_are_left_out(bundle: Path, photos: Path, tmp_path: Path, caplog):
    shutil.copytree(photos / NEW, tmp_path / "new" / NEW)
    (tmp_path / "new" / NEW / "note.jpg").write_text("a note")
    whole = sorted((photos / NEW).iterdir())[0].read_bytes()
    (tmp_path / "new" / NEW / "half.jpg").write_bytes(whole[: len(whole) // 2])
    assert learn(bundle, tmp_path / "new").photos == 20
    assert re.search(r"Skipped \S+note\.jpg: ", caplog.text)
    assert re.search(r"Skipped \S+half\.jpg: cannot be decoded", caplog.text)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("check.json", "not a whole bundle: check.json is missing"),
        ("embeddings.npz", "has no embeddings.npz, without which"),
    ],
)
def test_a_bundle_that_is_not_whole(bundle: Path, photos: Path, missing: str, message: str):
    (bundle / missing).unlink()
    with pytest.raises(UserError, match=message):
        learn(bundle, photos)


def test_damaged_embeddings_are_named(bundle: Path, photos: Path):
    content = (bundle / "embeddings.npz").read_bytes()
    (bundle / "embeddings.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"embeddings\.npz is damaged.*copy the bundle again"):
        learn(bundle, photos)


def test_splits_of_the_dataset_s_own_stay(taught: tuple[Path, Path]):
    """New photos are then trained on, as those in its folder train."""
    stored = StoredEmbeddings.load(taught[0] / "embeddings.npz")
    assert not stored.settings.has_own_splits
    lines = [
        Photo("", p.label, "train" if i % 2 else "test", p.sha256)
        for i, p in enumerate(stored.photos)
    ]
    labelled = LabelledEmbeddings.join([stored.embeddings], lines)
    out_of_fold = recipes.train(labelled, "optimum", seed=0).out_of_fold()
    shard = taught[0].parents[1] / "photos.npz"
    own = StoredEmbeddings.of_run([shard], lines, SETTINGS, out_of_fold, KNOWN)
    assert own.settings.has_own_splits
    assert sorted(own.photos) == sorted(lines)


@pytest.fixture
def run_command(bundle: Path):
    """Runs `python -m edgetpu_retrain learn`."""

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgetpu_retrain", "learn", bundle, *arguments]
        return subprocess.run(
            [str(word) for word in command],
            cwd=ROOT, env=os.environ | environment, capture_output=True, text=True,
        )  # fmt: skip

    return run


def test_an_edge_tpu_embeds_the_photos(run_command, bundle: Path, photos: Path, tmp_path: Path):
    """A stand-in answers every photo with the same embedding."""
    done = run_command(photos, "--device", "usb")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    library = stand_ins.edgetpu_library(tmp_path / "library", "answers")
    answer = np.arange(256, dtype=np.uint8)
    answer.tofile(tmp_path / "answer")
    done = run_command(
        photos, LD_LIBRARY_PATH=str(library), EDGETPU_ANSWER=str(tmp_path / "answer")
    )
    assert done.returncode == 0, done.stderr
    embeddings = StoredEmbeddings.load(bundle / "embeddings.npz").embeddings.embeddings
    assert np.sum((embeddings == answer).all(axis=1)) == 30


@pytest.fixture
def video(photos: Path, tmp_path: Path) -> Path:
    """A video of the new class, for a camera: two seconds of 10 pictures each."""
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 96))
    for path in sorted((photos / NEW).iterdir())[:20]:
        writer.write(cv2.resize(cv2.imread(str(path)), (96, 96)))
    writer.release()
    return tmp_path / "v.avi"


def test_a_class_is_learned_from_a_camera(run_command, bundle: Path, video: Path):
    # Five of ten pictures per second are kept.
    done = run_command("--camera", video, "--label", NEW, "--count", "8")
    assert done.returncode == 0, done.stderr
    assert "Took 8 of 8 pictures" in done.stdout
    assert f"Learned 8 new photos, with the new class {NEW}" in done.stdout
    assert len(list((bundle / f"learned/{NEW}").iterdir())) == 8
    assert not (bundle / "camera").exists()
    # A video that ends gives fewer, and those that are known are not learned again.
    done = run_command("--camera", video, "--label", NEW)
    assert "Took 10 of 50 pictures" in done.stdout
    assert "Learned 2 new photos." in done.stdout


def test_pictures_of_a_camera_that_cannot_be_learned_are_kept(
    run_command, bundle: Path, video: Path
):
    done = run_command("--camera", video, "--label", NEW, "--count", "2")
    assert done.returncode != 0
    assert f"but '{NEW}' has 2" in done.stderr
    assert len(list((bundle / f"camera/{NEW}").iterdir())) == 2


def test_mistakes_with_a_camera_are_explained(tmp_path: Path, monkeypatch):
    with pytest.raises(UserError, match=r"camera .*none\.avi' cannot be opened"):
        camera.collect(str(tmp_path / "none.avi"), tmp_path / "robin", 1)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match="pip install opencv-python-headless"):
        camera.collect("0", tmp_path / "robin", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--camera and --label"),
        (["photos", "--camera", "0", "--label", "x"], "--camera and --label"),
        (["--camera", "0"], "--camera and --label"),
        (["--camera", "0", "--label", "../x"], "'../x' cannot be the name of a folder"),
        (["--camera", "0", "--label", "x", "--count", "0"], "--count must be at least 1"),
    ],
)
def test_a_wrong_command_is_explained(bundle: Path, arguments, message, capsys):
    with pytest.raises(SystemExit):
        learn_command.main(bundle, arguments)
    assert message in capsys.readouterr().err
