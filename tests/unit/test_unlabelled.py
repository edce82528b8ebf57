"""Photos without a class: how the index lists them, and that labels do what folders do."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain.config.datasets import Dataset, check_unlabelled, find_unlabelled
from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.embeddings.shards import Embeddings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import corrections, manifest
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.training import recipes
from tests.indexing import Written, scan_folder, write_index
from tests.planning import lay_small_photos, make_plan

HEADER = "sha256\tclass\tpath\tnote\n"
BACKBONE = {"name": "mine", "extractor": "network"}


@pytest.fixture
def heap(tmp_path: Path) -> tuple[Path, Path]:
    """The same photos sorted into two classes, and in one flat folder with a folder inside."""
    sorted_photos = lay_small_photos(tmp_path / "sorted")
    shutil.copy(sorted_photos / "rose" / "000.bmp", sorted_photos / "rose" / "copy.bmp")
    flat = tmp_path / "heap"
    (flat / "deeper").mkdir(parents=True)
    for path in sorted_photos.rglob("*.bmp"):
        below = flat / "deeper" if path.stem > "020" else flat
        shutil.copy(path, below / f"{path.parent.name}-{path.name}")
    return sorted_photos, flat


def label_all(flat: Path, table: Path, some: int = 10**6) -> Path:
    lines = {
        f"{files.sha256(path)}\t{path.name.split('-')[0]}\t\t\n"
        for path in sorted(flat.rglob("*.bmp"))[:some]
    }
    table.write_text(HEADER + "".join(sorted(lines)))
    return table


def rows(found: Written) -> list[tuple[str, str, str]]:
    return sorted((photo.sha256, photo.label, photo.split) for photo in found.photos)


def test_labels_in_the_file_do_what_folders_do(heap, tmp_path: Path):
    sorted_photos, flat = heap
    by_folder = write_index(sorted_photos)
    options = {"unlabelled": [flat], "corrections_path": label_all(flat, tmp_path / "labels.tsv")}
    (tmp_path / "empty").mkdir()
    found = scan_folder(tmp_path / "empty", **options | {"root": None})
    assert sorted((p.sha256, p.label, p.split) for p in found.photos) == rows(by_folder)
    assert found.digests(4).labels == scan_folder(sorted_photos).digests(4).labels
    assert found.digests(4).shards == scan_folder(sorted_photos).digests(4).shards
    assert {one.outcome for one in found.applied_corrections} == {"labelled"}


def test_a_label_changes_labels_and_no_shard(heap, tmp_path: Path):
    sorted_photos, _ = heap
    beside = tmp_path / "beside"
    beside.mkdir()
    for i in range(9):
        (beside / f"{i}.bmp").write_bytes(b"BM" + f"new {i}".encode())
    shutil.copy(sorted_photos / "daisy" / "007.bmp", beside / "known already.bmp")
    before = write_index(sorted_photos, unlabelled=[beside])
    alone = scan_folder(sorted_photos).digests(1)
    assert before.digests.labels == alone.labels
    assert before.digests.shards != alone.shards
    listed = list(manifest.read(sorted_photos / ".index" / "unlabelled.tsv"))
    assert sorted(Path(photo.path).name for photo in listed) == [f"{i}.bmp" for i in range(9)]
    assert {photo.label for photo in listed} == {""}
    table = tmp_path / "labels.tsv"
    new, other, out = (files.sha256(beside / f"{i}.bmp") for i in range(3))
    table.write_text(f"{HEADER}{new}\tdaisy\t\t\n{other}\ttulip\t\t\n{out}\t\t\t\n")
    after = write_index(sorted_photos, unlabelled=[beside], corrections_path=table)
    assert after.digests.labels != before.digests.labels
    assert after.digests.shards == before.digests.shards
    assert after.shards == before.shards
    # A class that only labels know is a class.
    assert set(rows(after)) - set(rows(before)) == {
        (new, "daisy", after_split(after, new)),
        (other, "tulip", after_split(after, other)),
    }
    assert {one.sha256: one.outcome for one in after.corrected} == {
        new: "labelled", other: "labelled", out: "left out",
    }  # fmt: skip


def after_split(found: Written, sha256: str) -> str:
    (split,) = {photo.split for photo in found.photos if photo.sha256 == sha256}
    return split


def test_no_label_at_all_is_indexed(heap, tmp_path: Path):
    _, flat = heap
    (flat / "broken.jpg").write_bytes(b"no photo")
    found = scan_folder(flat.parent, **{"root": None, "unlabelled": [flat]})
    assert found.photos == []
    assert len(found.unlabelled) == 81
    assert [Path(one.path).name for one in found.unreadable] == ["broken.jpg"]


@pytest.mark.parametrize(
    ("label", "why"),
    [("  ", "only of blanks"), ("a/b", "slash"), (".x", "hidden"), ("x" * 201, "200 bytes")],
)
def test_a_label_that_cannot_be_a_class_is_refused(tmp_path: Path, label: str, why: str):
    path = tmp_path / "labels.tsv"
    path.write_text(f"{HEADER}{'a' * 64}\t{label}\t\t\n")
    corrector = corrections.Corrector(corrections.read(path), path)
    with pytest.raises(UserError, match=f"line 2: .*{why}"):
        corrector.correct("x.jpg", "", "a" * 64)


def made_up(count: int) -> tuple[Embeddings, list[str]]:
    random = np.random.default_rng(0)
    labels = ["ab"[i % 2] for i in range(count)]
    centres = random.normal(size=(2, 16))
    values = np.array([centres["ab".index(one)] for one in labels]) + random.normal(
        size=(count, 16)
    )
    identities = sorted(random.bytes(32).hex() for _ in range(count))
    return (
        Embeddings(
            np.clip(values * 20 + 100, 0, 255).astype(np.uint8),
            0.1, 100, np.array(identities, "S64"),
            random.integers(0, 256, (count, 32), np.uint8),
            "extractor", "bilinear", np.array([], "S64"), np.array([], str),
        ),
        labels,
    )  # fmt: skip


def test_photos_without_a_class_do_not_change_the_head(tmp_path: Path):
    every, labels = made_up(120)
    identities = every.photos.astype(str).tolist()
    # Unlabelled photos that look like two labelled ones would join these as near-copies.
    every.hashes[100:] = every.hashes[:20]
    every.embeddings[100:] = every.embeddings[:20]
    chosen = np.arange(120) < 100
    few = Embeddings(
        every.embeddings[chosen], every.scale, every.zero_point, every.photos[chosen],
        every.hashes[chosen], every.extractor, every.preprocessing, every.undecodable,
        every.reasons,
    )  # fmt: skip
    photos = [
        Photo(f"{i}.jpg", labels[i], "test" if i % 10 == 0 else "train", identities[i])
        for i in range(100)
    ]
    heads = []
    for name, embeddings in (("every", every), ("few", few)):
        embeddings.save(tmp_path / f"{name}.npz")
        labelled = LabelledEmbeddings.load([tmp_path / f"{name}.npz"], photos)
        recipes.train(labelled, "optimum", seed=0).head.save(tmp_path / f"{name}-head.npz")
        heads.append((tmp_path / f"{name}-head.npz").read_bytes())
    assert heads[0] == heads[1]


def test_the_plan_of_photos_without_labels(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "network").write_text("network")
    lay_small_photos(tmp_path / "clips" / "birds" / "train")
    options = {"unlabelled": "clips/birds/train", "backbone": BACKBONE}
    plan = make_plan(tmp_path, **options)
    assert (plan.dataset.name, plan.corrections, plan.labels) == ("birds", None, "corrections.tsv")
    heap = Path("clips/birds/train/daisy/000.bmp")
    Path("corrections.tsv").write_text(f"{HEADER}{files.sha256(heap)}\tdaisy\t\t\n")
    labelled = make_plan(tmp_path, **options)
    assert labelled.corrections == "corrections.tsv"
    before, after = plan.fingerprints, labelled.fingerprints
    assert before.embed("mine", "0000-of-0001") == after.embed("mine", "0000-of-0001")
    assert before.train("mine", "optimum") != after.train("mine", "optimum")


def test_folders_inside_one_another_are_refused(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    a, b = str(tmp_path / "a"), str(tmp_path / "a" / "b")
    (found,) = find_unlabelled(a)
    assert found.folder == a
    check_unlabelled([found], Dataset("none"))
    with pytest.raises(UserError, match=r"a/b is inside .*/a\."):
        check_unlabelled(find_unlabelled([a, b]), Dataset("none"))
    with pytest.raises(UserError, match=r"a/b is inside .*/a\."):
        check_unlabelled(find_unlabelled(b), Dataset("a", folder=a))
    with pytest.raises(UserError, match=r"no folder or archive .*/c\."):
        find_unlabelled([str(tmp_path / "c")])


def test_archives_of_one_name_are_refused(tmp_path: Path):
    """Both would be unpacked to one folder."""
    paths = [tmp_path / "new.zip", tmp_path / "deeper" / "new.tar.gz", tmp_path / "more.zip"]
    (tmp_path / "deeper").mkdir()
    for path in paths:
        path.write_bytes(b"PK")
    first, _, third = found = find_unlabelled([str(path) for path in paths])
    assert [one.archive for one in found] == [str(path) for path in paths]
    assert [one.name for one in found] == ["new", "new", "more"]
    check_unlabelled([first, third], Dataset("none"))
    check_unlabelled([first], Dataset("new"))
    for unlabelled, dataset in ((found, Dataset("none")), ([first], Dataset("new", urls=("x",)))):
        with pytest.raises(UserError, match="2 archives have the name 'new'"):
            check_unlabelled(unlabelled, dataset)


def test_labels_that_look_the_same_are_refused(heap, tmp_path: Path):
    _, flat = heap
    table = tmp_path / "labels.tsv"
    first, second = (files.sha256(path) for path in sorted(flat.glob("*.bmp"))[:2])
    table.write_text(f"{HEADER}{first}\tRose\t\t\n{second}\trose\t\t\n")
    with pytest.raises(UserError, match=r"labels\.tsv: Rose.*names look the same"):
        scan_folder(flat.parent, root=None, unlabelled=[flat], corrections_path=table)
