import pytest

from edgetpu_retrain.config.datasets import find_corrections, find_dataset, find_test_folder
from edgetpu_retrain.errors import UserError

DATASETS = {
    "flowers": {"urls": ["https://example.org/f.tgz"], "sha256": "1" * 64, "photos": 3670},
    "sample": {"archive": "sample/photos.zip", "sha256": "2" * 64},
}


def test_a_dataset_is_a_name_an_address_an_archive_or_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "My photos!").mkdir()
    (tmp_path / "birds.tar.gz").touch()
    flowers = find_dataset("flowers", DATASETS, None)
    assert (flowers.sha256, flowers.photos) == ("1" * 64, 3670)
    sample = find_dataset("sample", DATASETS, None)
    assert (sample.archive, sample.sha256) == ("sample/photos.zip", "2" * 64)
    address = find_dataset("https://example.org/a%20b/Garden.ZIP?x=1", DATASETS, None)
    assert (address.name, address.urls[0][-4:]) == ("Garden", "?x=1")
    archive = find_dataset("birds.tar.gz", DATASETS, "A" * 64)
    assert (archive.name, archive.archive, archive.sha256) == ("birds", "birds.tar.gz", "A" * 64)
    folder = find_dataset("My photos!/", DATASETS, None)
    assert (folder.name, folder.folder) == ("My_photos_", "My photos!")
    assert find_dataset("..", DATASETS, None).name == tmp_path.parent.name


@pytest.mark.parametrize(
    ("wanted", "sha256", "message"),
    [
        ("flower", None, "Did you mean flowers.*Names in that file: flowers, sample"),
        ("photos/none", None, "not a folder, archive or table on disk"),
        ("flowers", "0" * 64, "dataset_sha256 is only for an archive of your own"),
        (".", "0" * 64, "is not an archive"),
    ],
)
def test_a_wrong_dataset_is_explained(wanted, sha256, message):
    with pytest.raises(UserError, match=message):
        find_dataset(wanted, DATASETS, sha256)


@pytest.mark.parametrize(
    "wanted", ["taken", "taken/dataset", "taken.tar.gz", "https://example.org/taken.zip", "flowers"]
)
def test_a_name_that_is_taken_is_explained(tmp_path, monkeypatch, wanted):
    monkeypatch.chdir(tmp_path)
    # As Frigate's photos lie.
    (tmp_path / "taken" / "dataset").mkdir(parents=True)
    (tmp_path / "taken.tar.gz").touch()
    name = find_dataset(wanted, DATASETS).name
    assert find_dataset(wanted, DATASETS, reserved={"other"}).name == name
    with pytest.raises(UserError, match=f"results/{name} is reserved"):
        find_dataset(wanted, DATASETS, reserved={name})


def test_corrections_and_a_test_dataset_have_to_be_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "corrections.tsv").touch()
    (tmp_path / "october").mkdir()
    assert find_corrections("~/corrections.tsv") == str(tmp_path / "corrections.tsv")
    assert find_corrections(None) is find_corrections("") is None
    assert find_test_folder("test_dataset", "~/october") == str(tmp_path / "october")
    with pytest.raises(UserError, match=r"corrections is '~/none\.tsv', but there is no such file"):
        find_corrections("~/none.tsv")
    with pytest.raises(UserError, match=r"test_dataset: the folder .* does not exist"):
        find_test_folder("test_dataset", "~/corrections.tsv")


@pytest.mark.parametrize(
    ("folder", "name", "frigate"),
    [
        ("clips/gate right 3/dataset", "gate_right_3", "gate right 3"),
        ("clips/birds/dataset", "birds", "birds"),
        ("my birds", "my_birds", None),
        # No names that Frigate takes.
        ("clips/2024/dataset", "2024", None),
        ("clips/a{b}/dataset", "a_b_", None),
    ],
)
def test_a_classification_of_frigate_keeps_its_name(tmp_path, folder, name, frigate):
    (tmp_path / folder).mkdir(parents=True)
    found = find_dataset(str(tmp_path / folder), {})
    assert (found.name, found.frigate) == (name, frigate)


def test_a_long_name_is_cut(tmp_path):
    found = find_dataset("https://example.org/" + "\u00e4" * 300 + ".zip", {})
    assert found.name == "\u00e4" * 60
    # A line break is no part of a name.
    assert find_dataset("https://example.org/birds.zip%0A", {}).name == "birds.zip_"
