"""What a run works on, as it is decided while the Snakefile is read."""

import os
import shutil
from pathlib import Path

import pytest

from edgetpu_retrain.backbone.sources import Source
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import manifest
from edgetpu_retrain.index.identity_cache import IdentityCache
from edgetpu_retrain.io import files
from edgetpu_retrain.workflow import plan
from edgetpu_retrain.workflow.selection import ComparedModel
from tests.conftest import ROOT
from tests.planning import lay_small_photos, make_plan

# Of the catalogue; published at https://coral.ai/docs/edgetpu/benchmarks.
V1 = "mobilenet_v1_1.0_224"
NOT_COMPILED = "mobilenet_v2_1.0_224_quant"


@pytest.fixture
def photos(tmp_path: Path) -> str:
    return str(lay_small_photos(tmp_path / "garden"))


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of about 20 photos, as if there were a hundred times as many as are."""
    monkeypatch.setattr(manifest, "_PHOTOS_PER_SHARD", 20)


def lay_shards(folder: Path, dataset: str, count: int) -> None:
    """What an index left that divided the photos into so many shards."""
    (folder / "results" / dataset / "shards").mkdir(parents=True)
    for name in manifest.shard_names(count):
        (folder / "results" / dataset / "shards" / f"{name}.tsv").touch()


def test_a_plan_leaves_nothing_but_what_it_knows_of_files(tmp_path: Path, photos):
    found = make_plan(tmp_path, dataset=photos, backbone=V1)
    assert (found.dataset.name, found.dataset.folder) == ("garden", photos)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".identities", "garden"]


def test_folders_of_one_name_are_known_apart(tmp_path: Path, photos):
    other = lay_small_photos(tmp_path / "elsewhere" / "garden", count=5)
    for folder in (photos, str(other), f"{photos}/../garden"):
        make_plan(tmp_path, dataset=folder, backbone=V1)
    assert len(list((tmp_path / ".identities").glob("garden-*.npz"))) == 2


@pytest.mark.parametrize(
    ("dataset", "photos", "shards"),
    [("flowers", 3670, 2), ("sample", 304, 1), ("https://example.org/birds.zip", None, 1)],
)
def test_an_archive_need_not_be_there_yet(tmp_path: Path, dataset, photos, shards):
    found = make_plan(tmp_path, dataset=dataset, backbone=V1)
    # Of about 2,000 photos each.
    assert (found.dataset.photos, found.num_shards) == (photos, shards)
    assert found.dataset.folder is None


def test_a_catalogue_is_found_from_any_folder(tmp_path: Path, monkeypatch):
    for folder in (ROOT, tmp_path):
        monkeypatch.chdir(folder)
        archive = make_plan(tmp_path, dataset="sample", backbone="sample").dataset.archive
        assert os.path.samefile(archive, ROOT / "sample/photos.zip")


@pytest.mark.parametrize(
    ("photos", "current", "expected"),
    [
        # 80 photos in shards of 20.
        (40, None, 4),
        # The number stays until a shard holds more than 40, or fewer than 5.
        (40, 2, 2),
        (40, 16, 16),
        (41, 2, 8),
        (39, 16, 4),
        (40, 1, 4),
    ],
)
def test_the_number_of_shards_of_a_folder(tmp_path: Path, small_shards, photos, current, expected):
    folder = lay_small_photos(tmp_path / "garden", photos)
    if current:
        lay_shards(tmp_path, "garden", current)
    found = make_plan(tmp_path, dataset=str(folder), backbone=V1)
    assert found.num_shards == len(found.fingerprints.photos.shards) == expected
    found = make_plan(tmp_path, dataset=str(folder), backbone=V1, shards=3)
    assert found.num_shards == len(found.fingerprints.photos.shards) == 3


@pytest.mark.parametrize(
    ("kind", "current", "expected"),
    # What is in an archive of the user's own is counted once.
    [("zip", None, 4), ("gztar", None, 4), ("zip", 2, 2), ("damaged", None, 1)],
)
def test_the_number_of_shards_of_an_archive(
    tmp_path: Path, photos, small_shards, kind, current, expected
):
    if kind == "damaged":
        archive = tmp_path / "garden.zip"
        archive.write_bytes(b"PK\x03\x04 and no more")
    else:
        archive = shutil.make_archive(str(tmp_path / "garden"), kind, photos)
    if current:
        lay_shards(tmp_path, "garden", current)
    found = make_plan(tmp_path, dataset=str(archive), backbone=V1)
    assert found.num_shards == len(found.fingerprints.photos.shards) == expected
    assert make_plan(tmp_path, dataset=str(archive), backbone=V1, shards=3).num_shards == 3


def test_the_number_of_shards_of_the_catalogue(tmp_path: Path, small_shards):
    # 3,670 photos; the number stays where it is near enough.
    for current, expected in ((None, 256), (128, 128), (64, 256)):
        if current:
            shutil.rmtree(tmp_path / "results", ignore_errors=True)
            lay_shards(tmp_path, "flowers", current)
        assert make_plan(tmp_path, dataset="flowers", backbone=V1).num_shards == expected


def test_jobs_on_other_machines_take_what_the_index_left(tmp_path: Path, photos):
    settings = {"dataset": photos, "backbone": V1, "shards": 4}
    with pytest.raises(FileNotFoundError, match="digests"):
        make_plan(tmp_path, scan_photos=False, **settings)
    listed = make_plan(tmp_path, **settings).fingerprints.photos
    listed.save(tmp_path / "results" / "garden" / "digests.json")
    (Path(photos) / "rose" / "000.bmp").unlink()
    found = make_plan(tmp_path, scan_photos=False, **settings)
    assert (found.num_shards, found.fingerprints.photos) == (4, listed)


@pytest.mark.parametrize("name", ["backbones", "backbones.zip"])
def test_a_dataset_cannot_have_a_name_that_is_taken(tmp_path: Path, photos, name):
    if name.endswith(".zip"):
        shutil.make_archive(str(tmp_path / "backbones"), "zip", photos)
    else:
        shutil.move(photos, tmp_path / name)
    with pytest.raises(UserError, match="results/backbones is reserved"):
        make_plan(tmp_path, dataset=str(tmp_path / name), backbone=V1)


def network(folder: Path, name: str = "mine", content: str = "a network") -> dict[str, str]:
    (folder / f"{content}.tflite").write_text(content)
    return {"name": name, "extractor": str(folder / f"{content}.tflite")}


def test_what_is_compared_begins_with_what_is_configured(tmp_path: Path, photos):
    mine = network(tmp_path)
    coral = {"recipe": "coral", "num_iter": 500, "reg": 0.1}
    compare = [
        "efficientnet_edgetpu_s",
        mine,
        V1,
        {"training": coral},
        {"backbone": mine, "training": {"recipe": "imprinting"}},
        # Said in another way once more.
        {"backbone": V1, "training": {"recipe": "optimum"}},
    ]
    found = make_plan(tmp_path, dataset=photos, backbone=V1, compare=compare)
    assert (found.backbone, found.recipe) == (V1, "optimum")
    assert found.compared == [
        ComparedModel(V1, "optimum", 2.2),
        ComparedModel("efficientnet_edgetpu_s", "optimum", 5.0),
        ComparedModel("mine", "optimum", None),
        ComparedModel(V1, "coral-reg=0.1", 2.2),
        ComparedModel("mine", "imprinting", None),
    ]
    assert found.recipes == {
        "optimum": {"recipe": "optimum"},
        # A setting that is the default makes no difference.
        "coral-reg=0.1": {"recipe": "coral", "reg": 0.1},
        "imprinting": {"recipe": "imprinting"},
    }
    assert found.backbones.keys() == {V1, "efficientnet_edgetpu_s", "mine"}
    assert found.backbone_specs == {
        V1: V1, "efficientnet_edgetpu_s": "efficientnet_edgetpu_s", "mine": mine
    }  # fmt: skip


def test_two_networks_of_one_name_cannot_be_told_apart(tmp_path: Path, photos):
    settings = {"dataset": photos, "backbone": network(tmp_path)}
    with pytest.raises(UserError, match="two different backbones are named 'mine'"):
        make_plan(tmp_path, compare=[network(tmp_path, content="another")], **settings)
    # The same one may be named twice.
    assert len(make_plan(tmp_path, compare=[network(tmp_path)], **settings).compared) == 1


def test_a_name_to_compare_is_that_of_the_configured_network(tmp_path: Path, photos):
    """As config.yaml lists networks of the catalogue, one of which may be described anew."""
    mine = network(tmp_path) | {"name": V1}
    found = make_plan(tmp_path, dataset=photos, backbone=mine, compare=[V1, NOT_COMPILED])
    assert [one.backbone for one in found.compared] == [V1, NOT_COMPILED]
    assert found.backbone_specs == {V1: mine, NOT_COMPILED: NOT_COMPILED}


def test_a_setting_of_another_recipe_is_an_error(tmp_path: Path, photos):
    for settings in (
        {"training": {"num_iter": 3}},
        {"compare": [{"training": {"num_iter": 3}}]},
    ):
        with pytest.raises(UserError, match="num_iter is a setting of the recipe coral"):
            make_plan(tmp_path, dataset=photos, backbone=V1, **settings)


@pytest.mark.parametrize(
    ("backbone", "program", "device", "expected"),
    [
        # Published compiled.
        (V1, None, "auto", ("usb:0", "_edgetpu")),
        (V1, None, "cpu", ("cpu", "")),
        (NOT_COMPILED, "edgetpu_compiler", "auto", ("usb:0", "_edgetpu")),
        (NOT_COMPILED, None, "auto", ("cpu", "")),
        # Who asks for it is told later why there is none.
        (NOT_COMPILED, None, "pci", ("pci", "_edgetpu")),
    ],
)
def test_auto_is_an_edge_tpu_where_something_runs_on_it(
    tmp_path: Path, photos, stand_in_library, monkeypatch, backbone, program, device, expected
):
    # No compiler is installed.
    monkeypatch.setenv("PATH", str(tmp_path))
    compiler = {"path": program} if program else {"sources": []}
    found = make_plan(tmp_path, dataset=photos, backbone=backbone, device=device, compiler=compiler)
    assert (found.device, found.twin, found.compiler) == (*expected, program)


def test_auto_is_the_cpu_where_there_is_no_edge_tpu(tmp_path: Path, photos, no_library):
    found = make_plan(tmp_path, dataset=photos, backbone=V1, device="auto")
    assert (found.device, found.twin) == ("cpu", "")


def test_photos_of_a_test_dataset_are_told_apart_by_content_and_place(tmp_path: Path, photos):
    def identify(folder: Path) -> str:
        settings = {"dataset": photos, "backbone": V1, "test_dataset": str(folder)}
        return make_plan(tmp_path, **settings).fingerprints.test_photos

    folder = lay_small_photos(tmp_path / "test", count=3)
    one = identify(folder)
    assert one == identify(folder) != ""
    (folder / "rose" / "000.bmp").rename(folder / "daisy" / "rose.bmp")
    assert identify(folder) != one


def test_files_are_known_in_the_next_run(tmp_path: Path, photos, monkeypatch, hour_later):
    """Photos, those of the test dataset, corrections, archives and networks."""
    read = []
    sha256 = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: read.append(str(path)) or sha256(path))
    test = lay_small_photos(tmp_path / "test", count=1)
    corrections = tmp_path / "corrections.tsv"
    corrections.write_text("sha256\tclass\tpath\tnote\n")
    archive = shutil.make_archive(str(tmp_path / "birds"), "zip", photos)
    mine = network(tmp_path)
    for dataset, unseen in ((photos, 80 + 2 + 1), (archive, 2), (photos, 0), (archive, 0)):
        read.clear()
        found = make_plan(
            tmp_path,
            dataset=dataset,
            backbone=mine,
            corrections=str(corrections),
            test_dataset=str(test),
        ).fingerprints
        for _ in range(2):
            found.make_extractor("mine")
        assert len(read) == unseen


def test_a_test_dataset_may_become_the_dataset(tmp_path: Path, photos, hour_later):
    """Of one the identity of every file is known, of the other which of them are photos."""
    folder = lay_small_photos(tmp_path / "test")
    (folder / "rose" / "notes.txt").write_text("no photo")
    (folder / "rose" / "empty.jpg").touch()
    expected = make_plan(tmp_path / "1", dataset=str(folder), backbone=V1).fingerprints.photos
    make_plan(tmp_path / "2", dataset=photos, backbone=V1, test_dataset=str(folder))
    again = make_plan(tmp_path / "2", dataset=str(folder), backbone=V1, test_dataset=photos)
    assert again.fingerprints.photos == expected


def test_results_of_another_folder_of_the_same_name_are_mentioned(tmp_path, photos, caplog):
    """Results of a/birds and b/birds are in one folder; a folder that moved keeps its own."""
    other = lay_small_photos(tmp_path / "elsewhere" / "garden", count=5)
    archive = shutil.make_archive(str(tmp_path / "elsewhere" / "garden"), "zip", other)
    linked = tmp_path / "linked"
    linked.symlink_to(photos)
    (tmp_path / "results" / "garden").mkdir(parents=True)
    listed = [manifest.Photo(f"{photos}/rose/000.bmp", "rose", "train", "0" * 64)]
    manifest.write(listed, tmp_path / "results" / "garden" / "manifest.tsv")

    def warned(dataset: str) -> bool:
        caplog.clear()
        make_plan(tmp_path, dataset=dataset, backbone=V1)
        return "another dataset with the name 'garden'" in caplog.text

    assert not warned(photos)
    assert not warned(f"{linked}/../garden")
    assert warned(str(other))
    assert f"photos such as {photos}/rose/000.bmp. This run replaces them" in caplog.text
    assert warned(archive)
    os.rename(photos, tmp_path / "moved")
    (tmp_path / "new").mkdir()
    os.rename(tmp_path / "moved", tmp_path / "new" / "garden")
    assert not warned(str(tmp_path / "new" / "garden"))


def test_a_file_of_a_network_is_known_by_its_content(tmp_path: Path, hour_later):
    cache = IdentityCache(tmp_path / "cache.npz")
    (tmp_path / "model.pb").write_bytes(b"hello")
    # By `printf hello | sha256sum`.
    sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert plan.identify(Source(path=str(tmp_path / "model.pb")), cache) == sha256
    with pytest.raises(FileNotFoundError):
        plan.identify(Source(path=str(tmp_path / "gone.pb")), cache)
