"""What has to be made again after a change, and what stays.

The expected stages are written down by hand, by what each stage does. A stage is what
`Fingerprints` has a method for; "twin" is the classifier for the Edge TPU.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from edgetpu_retrain.config.settings import Settings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import manifest
from edgetpu_retrain.io import files
from edgetpu_retrain.workflow import fingerprints
from edgetpu_retrain.workflow.plan import Plan
from tests.planning import lay_small_photos, make_plan

# Stages with all that is made of them, where an Edge TPU embeds and evaluates.
EVALUATED = {"evaluate", "plot_confusion_matrix", "report", "compare", "deliver"}
TWIN = {"twin", "deliver_edgetpu", "bundle"} | EVALUATED
TRAINED = {"train", "serialize", "frigate"} | TWIN
EMBEDDED = {"embed", "collect_skipped", "label"} | TRAINED
COMPILED = {"compile", "take_compiled"} | EMBEDDED
# What depends on where photos lie.
LISTED = {"index", "collect_skipped", "bundle", "export"} | EVALUATED


def stages(plan: Plan) -> dict[str, Any]:
    """The fingerprint of every stage, for the configured backbone and recipe."""
    found, backbone = plan.fingerprints, plan.backbone
    model = backbone, plan.recipe
    shards = manifest.shard_names(plan.num_shards)
    return {
        "fetch_dataset": found.fetch_dataset(),
        "extract_dataset": found.extract_dataset(plan.dataset.name),
        "index": found.index(),
        "make_extractor": found.make_extractor(backbone),
        "choose_calibration_photos": found.choose_calibration_photos(backbone),
        "quantize": found.quantize(backbone),
        "take_compiled": found.take_compiled(backbone),
        "compile": found.compile(backbone),
        "embed": [found.embed(backbone, shard) for shard in shards],
        "collect_skipped": found.collect_skipped(backbone),
        "train": found.train(*model),
        "serialize": found.serialize(*model, ""),
        "twin": found.serialize(*model, "_edgetpu"),
        "evaluate": found.evaluate(*model),
        "plot_confusion_matrix": found.plot_confusion_matrix(*model),
        "report": found.report(*model),
        "compare": found.compare(),
        "deliver": found.deliver(*model),
        "deliver_edgetpu": found.deliver_edgetpu(*model),
        "bundle": found.bundle(*model, ["", "_edgetpu"]),
        "frigate": found.frigate(*model, "birds"),
        "export": found.export(),
        "label": found.label(*model, "corrections.tsv"),
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {stage for stage in before if before[stage] != after[stage]}


@dataclass
class Run:
    """A folder with photos and files of a network, and a configuration for them."""

    folder: Path
    settings: dict[str, Any]

    @property
    def photos(self) -> Path:
        return self.folder / "photos"

    def stages(self) -> dict[str, Any]:
        found = stages(make_plan(self.folder, **self.settings))
        # What is not made for this kind of network.
        other = {"choose_calibration_photos", "quantize", "compile"}
        if "float_tflite" in self.settings["backbone"]:
            other = {"take_compiled"}
        return {stage: found[stage] for stage in found.keys() - other}

    def set(self, key: str, value: Any) -> None:
        settings = self.settings
        *parents, last = key.split(".")
        for parent in parents:
            settings = settings.setdefault(parent, {})
        settings[last] = value


def begin(folder: Path, backbone: dict[str, Any]) -> Run:
    lay_small_photos(folder / "photos")
    for name in ("network", "compiled", "edgetpu_compiler"):
        (folder / name).write_text(f"content of {name}")
    settings = {
        "dataset": str(folder / "photos"),
        "device": "usb:0",
        "shards": 4,
        "backbone": {"name": "mine", "mean": 127.5, "std": 127.5, **backbone},
        "compiler": {"path": str(folder / "edgetpu_compiler")},
    }
    return Run(folder, settings)


def begin_quantized(folder: Path) -> Run:
    """With a network that is quantized already, and compiled elsewhere."""
    paths = {"extractor": str(folder / "network"), "compiled": str(folder / "compiled")}
    return begin(folder, paths)


def begin_calibrated(folder: Path) -> Run:
    """With a float network, which is quantized with the photos and compiled here."""
    return begin(folder, {"float_tflite": str(folder / "network")})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return begin_quantized(tmp_path)


# A key, another value than that of the schema or above, and what this changes.
SETTINGS: list[tuple[str, Any, set[str]]] = [
    # Only coral is random.
    ("seed", 1, set()),
    ("training", {"recipe": "imprinting"}, TRAINED),
    ("training", {"class_weights": "balanced"}, TRAINED),
    ("training", {"recipe": "coral", "num_iter": 400}, TRAINED),
    ("max_skipped", 0.2, {"index"} | TRAINED),
    ("split.test", 0.4, LISTED | TRAINED),
    ("split.validation", 0.4, LISTED | TRAINED),
    # No photo of these lies in a folder that is named after a split.
    ("split.folders", False, {"report", "deliver"}),
    ("resize", "nearest", EMBEDDED),
    ("calibration.photos", 100, set()),
    ("calibration.refresh", True, set()),
    ("compiler.allow_cpu_operators", True, {"take_compiled"} | EMBEDDED),
    ("compiler.min_runtime_version", 13, set()),
    ("compiler.timeout", 600, set()),
    ("compiler.sources", [{"url": "https://a/b", "md5": "0" * 32}], set()),
    ("compiler.path", "elsewhere/edgetpu_compiler", set()),
    ("device", "usb:1", EVALUATED),
    ("shards", 2, {"index", "embed", "collect_skipped", "label"}),
    ("frigate", "birds", set()),
    ("bundle.embeddings", False, {"bundle"}),
    ("backbone.mean", 100, {"make_extractor"} | COMPILED),
    ("backbone.std", 100, {"make_extractor"} | COMPILED),
    ("backbone.width", 7, {"make_extractor"} | COMPILED),
    ("backbone.name", "other", {"deliver", "deliver_edgetpu", "bundle", "frigate", "label"}),
]
CALIBRATED = {"quantize"} | COMPILED
# Where this is otherwise for a network that is quantized with photos.
SETTINGS_OF_CALIBRATED: dict[str, set[str]] = {
    "resize": CALIBRATED,
    "calibration.photos": {"choose_calibration_photos"} | CALIBRATED,
    "calibration.refresh": {"choose_calibration_photos"} | CALIBRATED,
    "compiler.allow_cpu_operators": CALIBRATED,
    "compiler.min_runtime_version": COMPILED,
    "backbone.mean": CALIBRATED,
    "backbone.std": CALIBRATED,
    "backbone.width": {"make_extractor"} | CALIBRATED,
}


@pytest.mark.parametrize(
    ("key", "value", "expected"), SETTINGS, ids=[f"{key}={value}" for key, value, _ in SETTINGS]
)
@pytest.mark.parametrize("kind", ["quantized", "calibrated"])
def test_a_setting_changes_what_depends_on_it_and_nothing_else(
    tmp_path: Path, kind, key, value, expected
):
    run = begin_calibrated(tmp_path) if kind == "calibrated" else begin_quantized(tmp_path)
    if kind == "calibrated":
        expected = SETTINGS_OF_CALIBRATED.get(key, expected)
    before = run.stages()
    run.set(key, value)
    assert changed(before, run.stages()) == expected & before.keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_iter", 400),
        ("batch_size", 50),
        ("learning_rate", 0.1),
        ("weight_scale", 0.1),
        ("reg", 0.1),
    ],
)
def test_a_setting_of_a_recipe_is_of_training(run: Run, name, value):
    run.set("training", {"recipe": "coral"})
    before = run.stages()
    run.set(f"training.{name}", value)
    assert changed(before, run.stages()) == TRAINED


def test_a_split_in_which_no_photo_moves_is_only_reported_and_bundled(run: Run):
    before = run.stages()
    run.set("split.test", 0.1 + 1e-9)
    assert changed(before, run.stages()) == {"report", "deliver", "bundle"}


def leaves(model: type[BaseModel], prefix: str = "") -> set[str]:
    """The full names of all keys that hold a value."""
    found = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        nested = isinstance(kind, type) and issubclass(kind, BaseModel)
        found |= leaves(kind, f"{prefix}{name}.") if nested else {prefix + name}
    return found


def test_no_key_of_the_configuration_is_left_out_here():
    keys = {key for key, _, _ in SETTINGS}
    training = {"recipe", "class_weights", "num_iter", "batch_size", "learning_rate"}
    training |= {"weight_scale", "reg", "pseudo_labels"}
    keys |= {f"training.{name}" for name in training}
    keys |= {"dataset", "dataset_sha256", "unlabelled", "corrections", "test_dataset"}
    keys |= {"compare", "backbone", "none", "strangers"}
    # Tested below.
    tuning = ("layers", "refresh", "rewrite", "mirror", "nested")
    keys |= {f"fine_tune.{name}" for name in tuning}
    assert leaves(Settings) <= keys


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        # No photo of these lies in a folder that is named after a split.
        ("split.folders", False, {"report", "deliver"}),
        ("resize", "nearest", EMBEDDED),
        ("compiler.allow_cpu_operators", True, {"compile"} | EMBEDDED),
        ("compiler.min_runtime_version", 13, {"compile"} | EMBEDDED),
    ],
)
def test_a_quantized_network_that_is_compiled_here(tmp_path: Path, key, value, expected):
    run = begin(tmp_path, {"extractor": str(tmp_path / "network")})
    before = stages(make_plan(run.folder, **run.settings))
    run.set(key, value)
    after = stages(make_plan(run.folder, **run.settings))
    assert changed(before, after) - {"quantize", "take_compiled"} == expected


def tuned_stages(run: Run) -> dict[str, str]:
    plan = make_plan(run.folder, **run.settings)
    found, name = plan.fingerprints, plan.backbone
    chosen = plan.backbones[name]
    return {
        "fine_tune": found.fine_tune(name),
        "folds": found.fine_tune_folds(name),
        "compiled": found.compile(name) if chosen.needs_compiler else found.rewrite(name),
        "embed": found.embed(name, "0000-of-0004"),
        "train": found.train(name, plan.recipe),
        "base": found.embed(chosen.base.name, "0000-of-0004"),
    }


def test_a_fine_tuned_network(run: Run):
    run.set("fine_tune.layers", 4)
    every = {"fine_tune", "folds", "compiled", "embed", "train"}
    for key, value, expected in (
        ("fine_tune.layers", 8, every),
        ("fine_tune.layers", "auto", every),
        ("fine_tune.mirror", False, every),
        ("seed", 1, every),
        ("resize", "nearest", {*every, "base"}),
        ("split.test", 0.5, {"train"}),
        # The model and what it is made of stay the same.
        ("fine_tune.nested", True, {"train"}),
        ("fine_tune.refresh", True, every),
        # Now that it follows the photos.
        ("split.test", 0.3, every),
        ("training.class_weights", "balanced", {"train"}),
    ):
        before = tuned_stages(run)
        run.set(key, value)
        assert changed(before, tuned_stages(run)) == expected, key
    before = tuned_stages(run)
    write_over(run, "network")
    assert changed(before, tuned_stages(run)) == {*every, "base"}


def test_weights_are_put_into_a_compiled_file_where_there_is_no_compiler(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    def needs_compiler() -> bool:
        plan = make_plan(run.folder, **run.settings)
        return plan.backbones[plan.backbone].needs_compiler

    run.set("fine_tune.layers", 4)
    assert needs_compiler()
    monkeypatch.setenv("PATH", "")
    run.set("compiler", {"sources": []})
    assert not needs_compiler()
    run.set("fine_tune.rewrite", False)
    assert needs_compiler()
    run.set("fine_tune.rewrite", True)
    del run.settings["backbone"]["compiled"]
    assert needs_compiler()


def test_entries_to_compare_are_fine_tuned_as_is_configured_but_for_what_they_say(run: Run):
    run.set("fine_tune", {"layers": 4, "mirror": False, "nested": True})
    run.set("compare", [{"fine_tune": {"layers": 8}}, {"fine_tune": {"layers": 8, "mirror": True}},
                        {"fine_tune": {"layers": "all", "nested": False}},
                        {"fine_tune": {"layers": 0}}])  # fmt: skip
    plan = make_plan(run.folder, **run.settings)
    tuned = [plan.backbones[one.backbone] for one in plan.compared]
    assert [(one.layers, one.mirror, one.nested) if one.FINE_TUNED else None for one in tuned] == [
        (4, False, True),
        (8, False, True),
        (8, True, True),
        ("all", False, False),
        None,
    ]
    # Both would be the same network, with other results.
    run.set("compare", [{"fine_tune": {"nested": False}}])
    with pytest.raises(UserError, match="-fine_tuned_4_not_mirrored has different values of nes"):
        make_plan(run.folder, **run.settings)


def test_a_network_that_is_taken_for_another_kind(tmp_path: Path):
    run = begin_calibrated(tmp_path)
    before = run.stages()
    run.settings["backbone"]["keras"] = run.settings["backbone"].pop("float_tflite")
    after = stages(make_plan(run.folder, **run.settings))
    assert changed(before, after) == ({"make_extractor"} | CALIBRATED) & before.keys()


def write_over(run: Run, name: str, content: str = "something else") -> None:
    (run.folder / name).write_text(content)


def test_a_network_of_the_same_name_and_other_content(tmp_path: Path):
    for begin_run, expected in (
        (begin_quantized, {"make_extractor"} | COMPILED),
        (begin_calibrated, {"make_extractor"} | CALIBRATED),
    ):
        run = begin_run(tmp_path / begin_run.__name__)
        before = run.stages()
        write_over(run, "network")
        assert changed(before, run.stages()) == expected & before.keys()


def test_a_network_of_the_same_content_elsewhere(run: Run):
    before = run.stages()
    shutil.copy(run.folder / "network", run.folder / "copy")
    run.set("backbone.extractor", str(run.folder / "copy"))
    assert changed(before, run.stages()) == set()


def test_another_compiled_file(run: Run):
    before = run.stages()
    write_over(run, "compiled")
    assert changed(before, run.stages()) == {"take_compiled"} | EMBEDDED
    # A model for the CPU has nothing to do with it.
    run.set("device", "cpu")
    before = run.stages()
    write_over(run, "compiled", "and once more")
    assert changed(before, run.stages()) == {"take_compiled", "twin", "deliver_edgetpu", "bundle"}


def test_a_network_that_is_downloaded_goes_by_its_checksum(run: Run):
    def fetched(**source: Any) -> tuple[str, str]:
        run.settings["backbone"] = {"name": "mine", "extractor": source}
        found = make_plan(run.folder, **run.settings).fingerprints
        return found.fetch_backbone("mine", "extractor.tflite"), found.make_extractor("mine")

    one = fetched(url="https://a/b", sha256="0" * 64)
    assert fetched(url="https://mirror/b", sha256="0" * 64) == one
    others = [
        fetched(url="https://a/b", sha256="1" * 64),
        fetched(url="https://a/b", sha256="0" * 64, member="x.tflite"),
        fetched(url="https://a/b", sha256="0" * 64, member="y.tflite"),
        fetched(url="https://a/b", git_blob="0" * 40),
        fetched(url="https://a/b"),
        fetched(url="https://mirror/b"),
    ]
    for seen in zip(one, *others, strict=True):
        assert len(set(seen)) == 7


def test_the_parts_of_a_network_are_downloaded_apart(run: Run):
    def fetched(network: str, compiled: str) -> list[str]:
        sources = {"extractor": network, "compiled": compiled}
        for key, digit in sources.items():
            run.set(f"backbone.{key}", {"url": f"https://a/{key}", "sha256": digit * 64})
        found = make_plan(run.folder, **run.settings).fingerprints
        return [found.fetch_backbone("mine", f"{part}.tflite") for part in sources]

    (network, compiled) = fetched("0", "1")
    assert network != compiled
    assert fetched("0", "2")[0] == network
    assert fetched("2", "1")[1] == compiled
    assert fetched("0", "2")[1] != compiled


@pytest.mark.parametrize("key", ["tensor", "input"])
def test_where_a_graph_is_cut(run: Run, key):
    graph = {"name": "mine", "frozen_graph": str(run.folder / "network"), "tensor": "Pool"}
    run.set("backbone", graph | {"compiled": str(run.folder / "compiled")})
    before = run.stages()
    run.set(f"backbone.{key}", "another")
    assert changed(before, run.stages()) == ({"make_extractor"} | COMPILED) & before.keys()


def rename(run: Run) -> None:
    (run.photos / "rose" / "003.bmp").rename(run.photos / "rose" / "a good one.bmp")


def move_into_a_folder(run: Run) -> None:
    (run.photos / "rose" / "october").mkdir()
    (run.photos / "rose" / "003.bmp").rename(run.photos / "rose" / "october" / "003.bmp")


def move_to_another_class(run: Run) -> None:
    (run.photos / "rose" / "003.bmp").rename(run.photos / "daisy" / "003 rose.bmp")


def swap_two(run: Run) -> None:
    """Under their names, which are of one class."""
    one, other, spare = (run.photos / "rose" / name for name in ("003.bmp", "004.bmp", "x"))
    one.rename(spare)
    other.rename(one)
    spare.rename(other)


def damage(run: Run) -> None:
    (run.photos / "rose" / "damaged.jpg").touch()


def correct(run: Run, label: str = "daisy") -> None:
    sha256 = files.sha256(run.photos / "rose" / "005.bmp")
    table = run.folder / "corrections.tsv"
    table.write_text(f"sha256\tclass\tpath\tnote\n{sha256}\t{label}\t\t\n")
    run.set("corrections", str(table))


def leave_out(run: Run) -> None:
    correct(run, label="")


def move_all(run: Run) -> None:
    shutil.move(run.photos, run.folder / "elsewhere" / "photos")
    run.set("dataset", str(run.folder / "elsewhere" / "photos"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (rename, LISTED),
        (move_into_a_folder, LISTED),
        (swap_two, LISTED),
        (damage, LISTED),
        (move_all, LISTED),
        (move_to_another_class, LISTED | TRAINED),
        (correct, LISTED | TRAINED | {"label"}),
        (leave_out, LISTED | TRAINED | {"label"}),
    ],
)
def test_photos_that_are_the_same_are_not_embedded_again(
    run: Run, change: Callable[[Run], None], expected
):
    before = run.stages()
    change(run)
    assert changed(before, run.stages()) == expected


def test_a_photo_that_is_left_out_is_embedded_but_changes_no_head(run: Run):
    leave_out(run)
    before = run.stages()
    (run.photos / "rose" / "005.bmp").unlink()
    assert changed(before, run.stages()) == LISTED | {"embed", "label"}


def test_an_unlabelled_photo_is_embedded_but_changes_no_head(run: Run):
    heap = run.folder / "heap"
    heap.mkdir()
    (heap / "1.bmp").write_bytes(b"BM 1")
    run.set("unlabelled", str(heap))
    before = run.stages()
    (heap / "2.bmp").write_bytes(b"BM 2")
    assert changed(before, run.stages()) == LISTED | {"embed", "label"}


def test_unlabelled_photos_that_are_learned_from_change_the_head(run: Run):
    heap = run.folder / "heap"
    heap.mkdir()
    for i in range(3):
        (heap / f"{i}.bmp").write_bytes(b"BM" + f"new {i}".encode())
    run.set("unlabelled", str(heap))
    without = run.stages()
    run.set("training", {"pseudo_labels": True})
    before = run.stages()
    assert changed(without, before) == TRAINED
    (heap / "0.bmp").rename(heap / "moved.bmp")
    moved = run.stages()
    assert changed(before, moved) == LISTED
    (heap / "2.bmp").write_bytes(b"BM other")
    added = run.stages()
    assert changed(moved, added) == LISTED | {"embed", "label"} | TRAINED
    # It has a decision then, although no class.
    sha256 = files.sha256(heap / "2.bmp")
    (run.folder / "left_out.tsv").write_text(f"sha256\tclass\tpath\tnote\n{sha256}\t\t\t\n")
    run.set("corrections", str(run.folder / "left_out.tsv"))
    assert "train" in changed(added, run.stages())


def test_unlabelled_photos_in_an_archive(run: Run):
    """Beside a folder, which is known photo by photo all the same."""
    (run.folder / "more").mkdir()
    for i in range(9):
        (run.folder / "more" / f"{i}.bmp").write_bytes(b"BM" + f"new {i}".encode())
    archive = shutil.make_archive(str(run.folder / "heap"), "zip", run.folder / "more")
    run.set("unlabelled", [archive])
    run.set("shards", "auto")
    planned = make_plan(run.folder, **run.settings)
    assert (planned.dataset.name, *planned.packed) == ("photos", "heap")
    before, unpacked = run.stages(), planned.fingerprints.extract_dataset("heap")
    correct(run)
    labelled = run.stages()
    assert changed(before, labelled) == LISTED | TRAINED
    rename(run)
    moved = run.stages()
    assert "index" in changed(labelled, moved)
    shutil.make_archive(str(run.folder / "heap"), "zip", run.photos)
    other = make_plan(run.folder, **run.settings)
    assert changed(moved, stages(other)) >= LISTED | EMBEDDED
    assert other.fingerprints.extract_dataset("heap") != unpacked


@pytest.mark.parametrize("kind", ["quantized", "calibrated"])
def test_a_new_photo_is_embedded_with_its_shard_alone(tmp_path: Path, kind):
    run = begin_calibrated(tmp_path) if kind == "calibrated" else begin_quantized(tmp_path)
    before = run.stages()
    new = run.photos / "rose" / "new.bmp"
    new.write_bytes(b"BM new")
    after = run.stages()
    assert changed(before, after) == LISTED | EMBEDDED
    # By hand: quarters of the second 64 bits of its identity.
    shard = int(files.sha256(new)[16], 16) // 4
    pairs = zip(before["embed"], after["embed"], strict=True)
    assert [i for i, (one, other) in enumerate(pairs) if one != other] == [shard]


def test_calibration_follows_the_photos_where_it_is_to(tmp_path: Path):
    run = begin_calibrated(tmp_path)
    run.set("calibration.refresh", True)
    before = run.stages()
    rename(run)
    assert changed(before, run.stages()) == LISTED
    (run.photos / "rose" / "new.bmp").write_bytes(b"BM new")
    expected = LISTED | {"choose_calibration_photos"} | CALIBRATED
    assert changed(before, run.stages()) == expected & before.keys()


def test_other_photos_of_the_same_name(run: Run):
    before = run.stages()
    other = lay_small_photos(run.folder / "elsewhere" / "photos")
    for path in other.rglob("*.bmp"):
        path.write_bytes(path.read_bytes() + b" of another garden")
    run.set("dataset", str(other))
    after = run.stages()
    assert changed(before, after) == LISTED | EMBEDDED
    assert not set(before["embed"]) & set(after["embed"])


def test_the_same_photos_of_another_name(run: Run):
    before = run.stages()
    run.photos.rename(run.folder / "garden")
    run.set("dataset", str(run.folder / "garden"))
    after = run.stages()
    assert changed(before, after) == LISTED | {"deliver_edgetpu", "frigate", "label"}


def test_photos_of_a_test_dataset(run: Run):
    seen = [run.stages()["evaluate"]]
    before = run.stages()
    folder = lay_small_photos(run.folder / "test", count=2)
    run.set("test_dataset", str(folder))
    for happens in (
        lambda: None,
        lambda: (folder / "rose" / "001.bmp").rename(folder / "daisy" / "x.bmp"),
        lambda: (folder / "rose" / "000.bmp").write_bytes(b"BM changed"),
        lambda: (folder / "rose" / "000.bmp").unlink(),
    ):
        happens()
        after = run.stages()
        assert changed(before, after) == EVALUATED
        assert after["evaluate"] not in seen
        seen.append(after["evaluate"])
        assert run.stages() == after


def test_the_class_none_and_photos_to_test_it_with(run: Run):
    before = run.stages()
    run.set("none", "auto")
    with_none = run.stages()
    assert changed(before, with_none) == TRAINED
    folder = lay_small_photos(run.folder / "strangers", count=2)
    run.set("strangers", str(folder))
    tested = run.stages()
    assert changed(with_none, tested) == EVALUATED
    (folder / "rose" / "000.bmp").write_bytes(b"BM changed")
    assert changed(tested, run.stages()) == EVALUATED


def test_every_compared_model_is_in_the_comparison(run: Run):
    run.set("compare", [{"training": {"recipe": "imprinting"}}])
    one = run.stages()
    run.set("compare", [{"training": {"recipe": "imprinting"}}, {"training": {"recipe": "coral"}}])
    two = run.stages()
    assert changed(one, two) == {"compare"}
    (run.folder / "other network").write_text("another")
    extractor = {"name": "other", "extractor": str(run.folder / "other network")}
    extractor["compiled"] = str(run.folder / "compiled")
    run.set("compare", [extractor])
    three = run.stages()
    write_over(run, "other network")
    four = run.stages()
    assert changed(two, three) == changed(three, four) == {"compare"}


def test_the_seed_is_for_the_recipe_that_is_random(run: Run):
    run.set("training", {"recipe": "coral", "reg": 0.1})
    before = run.stages()
    run.set("seed", 7)
    assert changed(before, run.stages()) == TRAINED


def pack(run: Run) -> None:
    archive = shutil.make_archive(str(run.folder / "garden"), "zip", run.photos)
    run.set("dataset", archive)


def test_another_version_of_the_project_downloads_nothing_again(run: Run, monkeypatch):
    digest = "0" * 64
    run.set("dataset", "https://a/garden.zip")
    run.set("backbone", {"name": "mine", "tflite": {"url": "https://a/x", "sha256": digest}})

    def network() -> str:
        plan = make_plan(run.folder, **run.settings)
        return plan.fingerprints.fetch_backbone("mine", "classifier.tflite")

    before, network_before = run.stages(), network()
    monkeypatch.setattr(fingerprints, "_VERSION", 99)
    after = run.stages()
    assert network() == network_before
    assert changed(before, after) == before.keys() - {"fetch_dataset"}


def test_photos_in_an_archive(run: Run):
    """They need not have been unpacked, so every change of it may be one of every photo."""
    pack(run)
    before = run.stages()
    unpacked = {"fetch_dataset", "extract_dataset"}
    rename(run)
    pack(run)
    after = run.stages()
    assert changed(before, after) == unpacked | LISTED | EMBEDDED
    assert len({*before["embed"], *after["embed"]}) == 8
    for key, value, expected in (
        ("split.test", 0.4, LISTED | TRAINED),
        ("shards", 2, {"index", "embed", "collect_skipped", "label"}),
        ("dataset_sha256", files.sha256(run.settings["dataset"]), {"extract_dataset"}),
    ):
        before = after
        run.set(key, value)
        after = run.stages()
        assert changed(before, after) == expected
    before = after
    correct(run)
    assert changed(before, run.stages()) == LISTED | TRAINED | {"label"}
    before = run.stages()
    (run.folder / "elsewhere").mkdir()
    shutil.copy(run.settings["dataset"], run.folder / "elsewhere")
    run.set("dataset", str(run.folder / "elsewhere" / "garden.zip"))
    assert changed(before, run.stages()) == {"report", "deliver"}


def test_an_archive_that_is_downloaded_goes_by_its_checksum(run: Run):
    run.set("dataset", "https://a/garden.zip")
    plain = run.stages()
    run.set("dataset", "https://mirror/garden.zip")
    unpacked = {"fetch_dataset", "extract_dataset"}
    assert changed(plain, run.stages()) == unpacked | LISTED | EMBEDDED
    run.set("dataset_sha256", "0" * 64)
    one = run.stages()
    run.set("dataset", "https://a/garden.zip")
    assert changed(one, run.stages()) == {"report", "deliver"}
    run.set("dataset_sha256", "1" * 64)
    assert changed(one, run.stages()) == unpacked | LISTED | EMBEDDED


def test_a_name_in_frigate_is_of_its_folder_alone(run: Run):
    found = make_plan(run.folder, **run.settings)
    model = found.backbone, found.recipe
    fingerprints = [found.fingerprints.frigate(*model, name) for name in ("birds", "garden")]
    assert len(set(fingerprints)) == 2


def test_a_bundle_is_of_the_models_in_it(run: Run):
    found = make_plan(run.folder, **run.settings)
    model = found.backbone, found.recipe
    one, both = (found.fingerprints.bundle(*model, twins) for twins in ([""], ["", "_edgetpu"]))
    assert one != both


def test_all_stages_differ(run: Run):
    """Where two were the same, a file of one could be taken for that of the other."""
    found = run.stages()
    shards = found.pop("embed")
    assert len({*found.values(), *shards}) == len(found) + len(shards)


@pytest.mark.parametrize("kind", ["quantized", "calibrated"])
def test_jobs_on_other_machines_expect_the_same(tmp_path: Path, kind):
    """They do not list the photos, and take what the index left."""
    run = begin_calibrated(tmp_path) if kind == "calibrated" else begin_quantized(tmp_path)
    plan = make_plan(run.folder, **run.settings)
    path = run.folder / "results" / "photos" / "digests.json"
    plan.fingerprints.photos.save(path)
    shutil.rmtree(run.photos / "rose")
    elsewhere = make_plan(run.folder, scan_photos=False, **run.settings)
    assert stages(elsewhere) == stages(plan)
