"""What stands at the top is of one model, and what the user laid beside it stays."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgetpu_retrain.deploy import deliver
from edgetpu_retrain.deploy.bundle.make import file_names
from edgetpu_retrain.io import program

RECORDS = Path("results/.delivered")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a run is started in; paths at the top are taken from it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def deliver_models(run: str) -> None:
    """As the rules deliver and deliver_edgetpu do, in this order."""
    Path("results", run).mkdir(parents=True, exist_ok=True)
    deliver.remove_others(RECORDS, run)
    for record, names in (
        ("cpu.json", ["retrained_model.tflite", "label_map.txt"]),
        ("edgetpu.json", ["retrained_model_edgetpu.tflite"]),
    ):
        for name in names:
            Path("results", run, name).write_text(f"{name} of {run}")
        deliver.deliver({f"results/{run}/{name}": name for name in names})
        deliver.record(names, run, RECORDS / record)


def make_bundle(run: str) -> list[str]:
    """As the rule bundle does; returns what it delivered."""
    Path("bundle").mkdir(exist_ok=True)
    names = [f"bundle/{name}" for name in file_names(compiled=True)] + ["bundle.zip"]
    for name in names:
        Path(name).write_text(f"{name} of {run}")
    deliver.record(names, run, RECORDS / "bundle.json")
    return names


def top() -> set[str]:
    """All files outside of results/."""
    return {
        str(path) for path in Path().rglob("*") if path.is_file() and "results" not in path.parts
    }


def test_what_another_run_delivered_goes(caplog):
    deliver_models("roses")
    delivered = make_bundle("roses")
    before = deliver.delivered(RECORDS)
    with caplog.at_level("INFO"):
        removed = deliver.remove_others(RECORDS, "birds")
    models = ["retrained_model.tflite", "label_map.txt", "retrained_model_edgetpu.tflite"]
    assert sorted(removed) == sorted(delivered + models) == sorted(before)
    assert deliver.delivered(RECORDS) == []
    assert top() == set()
    # With the folder that was made for it.
    assert not Path("bundle").exists()
    assert list(RECORDS.iterdir()) == []
    (line,) = caplog.messages
    assert all(name in line for name in removed)


def test_what_this_run_delivered_stays():
    deliver_models("roses")
    make_bundle("roses")
    before = top()
    assert deliver.remove_others(RECORDS, "roses") == []
    assert top() == before
    assert len(list(RECORDS.iterdir())) == 3


def test_a_run_with_nothing_delivered_before_it():
    assert deliver.remove_others(RECORDS, "roses") == []


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text(f"{path.name} of roses, and a note"),
        lambda path: path.write_text("made by another tool"),
        lambda path: path.write_bytes(b""),
    ],
)
@pytest.mark.parametrize("name", ["label_map.txt", "bundle/labels.txt"])
def test_what_the_user_changed_stays(change: Callable[[Path], object], name: str):
    deliver_models("roses")
    make_bundle("roses")
    change(Path(name))
    content = Path(name).read_bytes()
    removed = deliver.remove_others(RECORDS, "birds")
    assert name not in removed
    assert top() == {name}
    assert Path(name).read_bytes() == content
    # It was never this project's again: no record speaks of it.
    assert deliver.remove_others(RECORDS, "roses") == []
    assert top() == {name}


def test_what_the_user_laid_beside_it_stays():
    deliver_models("roses")
    make_bundle("roses")
    own = {"bundle/notes.txt", "retrained_model_edgetpu (copy).tflite", "bundle/own/photo.jpg"}
    for name in own:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    deliver.remove_others(RECORDS, "birds")
    assert top() == own


def test_a_folder_in_place_of_a_file_stays():
    deliver_models("roses")
    Path("label_map.txt").unlink()
    Path("label_map.txt").mkdir()
    assert "label_map.txt" not in deliver.remove_others(RECORDS, "birds")
    assert Path("label_map.txt").is_dir()


def test_what_was_deleted_is_not_missed():
    deliver_models("roses")
    Path("label_map.txt").unlink()
    assert "label_map.txt" not in deliver.remove_others(RECORDS, "birds")
    assert top() == set()


def test_models_take_turns():
    """Nothing of a model is left beside another, whichever was delivered in between."""
    for run in ("roses", "birds", "roses"):
        deliver_models(run)
        assert Path("label_map.txt").read_text() == f"label_map.txt of {run}"
        if run == "roses":
            make_bundle(run)
        assert Path("bundle").exists() == (run == "roses")


def test_a_model_for_the_cpu_alone_takes_the_twin_of_another_away():
    deliver_models("roses")
    deliver.remove_others(RECORDS, "birds")
    Path("results/birds").mkdir()
    Path("results/birds/model").write_text("of birds")
    deliver.deliver({"results/birds/model": "retrained_model.tflite"})
    assert top() == {"retrained_model.tflite"}


def test_a_copy_is_whole_or_not_there(folder: Path):
    Path("label_map.txt").write_text("before")
    with pytest.raises(FileNotFoundError) as caught:
        deliver.deliver({"results/gone/label_map.txt": "label_map.txt"})
    assert "results/gone/label_map.txt" in program.describe_os_error(caught.value)
    assert [path.name for path in folder.iterdir()] == ["label_map.txt"]
    assert Path("label_map.txt").read_text() == "before"


def test_paths_in_a_folder_of_a_module():
    """Where this workflow is a module of another, paths begin with its prefix."""
    Path("retrain/bundle").mkdir(parents=True)
    Path("retrain/bundle/model.tflite").touch()
    deliver.record(["retrain/bundle/model.tflite"], "roses", Path("retrain") / RECORDS / "x.json")
    removed = deliver.remove_others(Path("retrain") / RECORDS, "birds")
    assert removed == ["retrain/bundle/model.tflite"]
    assert not Path("retrain/bundle").exists()
