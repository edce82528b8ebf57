import json
from pathlib import Path

from edgetpu_retrain.index import manifest
from edgetpu_retrain.report import summary
from edgetpu_retrain.training import intervals


def result(**classes: tuple[int, int]) -> dict:
    """What evaluation.json holds of classes with (correct, photos)."""
    correct, photos = (sum(values) for values in zip(*classes.values(), strict=True))
    return {
        "photos": photos,
        "correct": correct,
        "accuracy": correct / photos,
        "interval": intervals.wilson_interval(correct, photos),
        "classes": {
            name: {"correct": c, "photos": n, "predicted": c} for name, (c, n) in classes.items()
        },
        "confusion_matrix": [],
    }


def test_accuracy_comes_with_its_interval():
    (line,) = summary.accuracy(result(a=(45, 50), b=(36, 50)), "test photo", ", run on usb:0")
    # Wilson's interval of 81 of 100: (0.8283 +- 0.0772 / 1.0384), by hand.
    assert line == (
        "Accuracy: 81.0% on 100 test photos, run on usb:0 (95% interval 72.2% to 87.5%)"
    )
    (line,) = summary.accuracy(result(a=(1, 1)), "photo", "")
    assert line.startswith("Accuracy: 100.0% on 1 photo (")


def test_weak_and_undertested_classes_are_named():
    found = result(a=(9, 9), b=(1, 4), c=(6, 8), d=(0, 0), e=(5, 5))
    assert summary.weakest(found) == ["Weakest classes: b (1 of 4), c (6 of 8)"]
    assert summary.undertested(found) == ["Classes with fewer than 5 test photos: d (0), b (4)"]
    good = result(a=(9, 9), b=(8, 8))
    assert summary.weakest(good) == summary.undertested(good) == []
    many = result(**{f"c{i:02}": (1, 2) for i in range(40)})
    for (line,) in (summary.weakest(many), summary.undertested(many)):
        assert len(line) < 200
    assert "and 35 more" in summary.undertested(many)[0]


def test_the_class_none_needs_no_test_photos(tmp_path: Path):
    found = result(a=(9, 9), none=(0, 0))
    assert summary.undertested(found, {"a"}) == []
    assert summary.undertested(found) == ["Classes with fewer than 5 test photos: none (0)"]


def test_no_test_photos():
    assert summary.accuracy(None, "test photo", "") == []
    assert summary.weakest(None) == summary.undertested(None) == []


def test_the_whole_summary(tmp_path: Path):
    model = tmp_path / "retrained_model.tflite"
    model.write_bytes(b"x" * 2048)
    content = {
        "model": str(model),
        "device": "cpu",
        "recipe": "optimum",
        "classes": ["a", "b"],
        "test": result(a=(5, 6), b=(6, 6)),
        "cross_validation": result(a=(50, 60), b=(60, 60)),
        "test_dataset": None,
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(content))
    skipped = [manifest.Skipped("a/x.jpg", "broken"), manifest.Skipped("a/y.jpg", "broken")]
    manifest.write_skipped(skipped, tmp_path / "skipped.tsv")
    text = summary.summary(
        [model],
        tmp_path / "evaluation.json",
        tmp_path / "skipped.tsv",
        tmp_path / "c.png",
        classify=lambda path: f"classify --model {path}",
        bundle="snakemake --config dataset=birds -- bundle",
        removed=["retrained_model_edgetpu.tflite", "bundle/classify.py"],
    )
    assert "91.7% on 12 test photos, run on cpu" in text
    assert "91.7% on 120 photos in cross-validation" in text
    assert "Weakest class: a (50 of 60)" in text
    assert "fewer than 5" not in text
    for part in ("2,048 bytes", "for the CPU", "2 files were skipped", "skipped.tsv", "c.png"):
        assert part in text
    assert f"  classify --model {model}" in text
    assert text.endswith("  snakemake --config dataset=birds -- bundle")
    assert "another model: retrained_model_edgetpu.tflite, bundle/classify.py" in text


def test_what_quantizing_cost_is_said(tmp_path: Path):
    path = tmp_path / "quantization.json"
    check = {"accuracy": 0.861, "float_accuracy": 0.892, "photos": 500}
    path.write_text(json.dumps({"check": check, "warnings": ["It costs."]}))
    assert summary.quantized(path) == [
        "Quantization: a linear classifier on the embeddings reaches 86.1%, compared with 89.2% "
        f"before quantization (500 photos); see {path}",
        "Warning: It costs.",
    ]
    path.write_text(json.dumps({"check": None, "warnings": []}))
    assert summary.quantized(path) == []
