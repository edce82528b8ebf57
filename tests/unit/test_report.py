"""The page and its tables, on real scores and on made-up ones of every size."""

import csv
import html
import io
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets, metrics
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from edgetpu_retrain.index.corrections import AppliedCorrection
from edgetpu_retrain.index.manifest import Skipped
from edgetpu_retrain.report import advice, findings, history, page
from edgetpu_retrain.report.duplicates import find_groups, measure_leakage, tally, write_copies
from edgetpu_retrain.report.suspects import find_suspects, write_suspects
from edgetpu_retrain.training.intervals import wilson_interval
from edgetpu_retrain.training.predictions import SPLITS, ListedPredictions

HOSTILE = ("<script>alert(1)</script>", '"quo\'te" & \u05d5\u05e8\u05d3', "\U0001f337</script><b>")


def predictions_of(
    scores: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    tested: np.ndarray | None = None,
    paths: tuple[str, ...] | None = None,
) -> ListedPredictions:
    number = len(labels)
    is_test = np.zeros(number, bool) if tested is None else tested
    return ListedPredictions(
        classes,
        labels,
        np.where(is_test, SPLITS.index("test"), SPLITS.index("train")),
        np.where(is_test, -1, 0),
        scores.astype(np.float32),
        paths or tuple(f"photos/{classes[label]}/{i}.jpg" for i, label in enumerate(labels)),
        tuple(f"{i:064x}" for i in range(number)),
    )


def some_of(predictions: ListedPredictions, chosen: np.ndarray) -> ListedPredictions:
    rows = np.flatnonzero(chosen)
    return ListedPredictions(
        predictions.classes,
        predictions.labels[rows],
        predictions.splits[rows],
        predictions.folds[rows],
        predictions.scores[rows],
        tuple(predictions.paths[row] for row in rows),
        tuple(predictions.identities[row] for row in rows),
    )


def document_of(found: findings.Findings, earlier=(), folder: str = "results") -> str:
    return "".join(page.report_page(found, earlier, folder))


def result_of(predictions: ListedPredictions) -> dict | None:
    """A part of evaluation.json, by scikit-learn."""
    labels, predicted = predictions.labels, predictions.scores.argmax(axis=1)
    if not len(labels):
        return None
    order = range(len(predictions.classes))
    matrix = metrics.confusion_matrix(labels, predicted, labels=order)
    correct = int((labels == predicted).sum())
    return {
        "photos": len(labels),
        "correct": correct,
        "accuracy": metrics.accuracy_score(labels, predicted),
        "interval": list(wilson_interval(correct, len(labels))),
        "classes": {
            name: {
                "photos": int(matrix[i].sum()),
                "correct": int(matrix[i, i]),
                "predicted": int(matrix[:, i].sum()),
            }
            for i, name in enumerate(predictions.classes)
        },
        "confusion_matrix": matrix.tolist(),
    }


def run_of(
    predictions: ListedPredictions, groups: np.ndarray | None = None, **changes
) -> findings.Run:
    tested = predictions.splits == SPLITS.index("test")
    evaluation = {
        "test": result_of(some_of(predictions, tested)),
        "cross_validation": result_of(some_of(predictions, ~tested)),
        "test_dataset": None,
        "learning_curve": [],
        "thresholds": [{"precision": 0.9, "score": None, "coverage": 0.0}],
        "temperature": 1.0,
        "calibration": None,
    } | changes.pop("evaluation", {})
    counts = np.bincount(predictions.labels, minlength=len(predictions.classes)).tolist()
    return findings.Run(
        "birds",
        "net",
        dict(zip(predictions.classes, counts, strict=True)),
        predictions,
        evaluation,
        np.arange(len(predictions.labels)) if groups is None else groups,
        np.zeros((len(predictions.labels), 32), np.uint8),
        num_skipped=len(changes.get("skipped", ())),
        **changes,
    )


def made_up(classes: int, photos: int, accuracy: float, names=None, **options) -> ListedPredictions:
    """Scores of which a given share is right, in no order."""
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), photos)
    answers = labels.copy()
    wrong = draw.permutation(len(labels))[: round((1 - accuracy) * len(labels))]
    answers[wrong] = (labels[wrong] + draw.integers(1, classes, len(wrong))) % classes
    scores = draw.dirichlet(np.ones(classes), len(labels)) * 0.5
    scores[np.arange(len(labels)), answers] += 0.5
    names = names or tuple(f"class {i}" for i in range(classes))
    return predictions_of(scores, labels, names, **options)


def text_of(document: str) -> str:
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", document, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


@pytest.fixture(scope="module")
def digits() -> tuple[ListedPredictions, np.ndarray]:
    """Out-of-fold scores of scikit-learn's handwritten digits; 5 % of labels were changed.

    Returns the predictions and the rows that were changed.
    """
    data = datasets.load_digits()
    draw = np.random.default_rng(0)
    changed = np.sort(draw.choice(len(data.target), 90, replace=False))
    labels = data.target.copy()
    labels[changed] = (labels[changed] + draw.integers(1, 10, len(changed))) % 10
    model = LogisticRegression(C=0.5)
    scores = cross_val_predict(model, data.data / 16, labels, cv=5, method="predict_proba")
    return predictions_of(scores, labels, tuple("0123456789")), changed


def test_changed_labels_are_suspected(digits):
    predictions, changed = digits
    suspects = find_suspects(predictions)
    rows = set(suspects.tolist())
    found = rows & set(changed.tolist())
    assert len(found) >= 0.85 * len(changed)
    assert len(found) >= 0.5 * len(rows)
    truth = datasets.load_digits().target
    assert sum(predictions.predicted[row] == truth[row] for row in found) >= 75
    assert len(set(suspects[:20].tolist()) & set(changed.tolist())) >= 18


def test_what_a_person_decided_is_not_suspected_again(digits):
    predictions, _ = digits
    suspects = find_suspects(predictions)
    decided = {predictions.identities[row] for row in suspects[::2]}
    assert find_suspects(predictions, decided).tolist() == suspects[1::2].tolist()


def test_suspects_are_written_with_both_scores(digits, tmp_path: Path):
    predictions, _ = digits
    suspects = find_suspects(predictions)
    write_suspects(suspects, predictions, tmp_path / "suspects.tsv")
    text = (tmp_path / "suspects.tsv").read_text()
    rows = list(csv.DictReader(io.StringIO(text), dialect="excel-tab"))
    assert len(rows) == len(suspects)
    for row in rows:
        i = predictions.paths.index(row["path"])
        assert row["class"] == predictions.classes[predictions.labels[i]]
        given, best = (predictions.classes.index(row[c]) for c in ("class", "suggested"))
        assert float(row["score"]) == pytest.approx(predictions.scores[i, given], abs=1e-4)
        assert float(row["suggested_score"]) == pytest.approx(predictions.scores[i].max(), abs=1e-4)
        assert best == predictions.scores[i].argmax()


def test_groups_of_copies_and_what_the_test_owes_them(tmp_path: Path):
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    numbers = np.array([7, 1, 7, 1, 2, 3, 3, 7])
    scores = np.eye(2)[[0, 0, 0, 1, 1, 0, 1, 0]]
    tested = np.array([1, 0, 0, 0, 1, 1, 0, 0], bool)
    predictions = predictions_of(scores, labels, ("a", "b"), tested)
    hashes = np.zeros((8, 32), np.uint8)
    hashes[[1, 7], :6] = 255
    hashes[6, 0] = 0b111
    groups = find_groups(predictions, numbers, hashes)
    assert [(tuple(g.rows), g.classes, g.kind, g.distance) for g in groups] == [
        ((1, 3), ("a", "b"), "similar", 48),
        ((0, 2, 7), ("a",), "similar", 0),
        ((5, 6), ("b",), "near-identical", 3),
    ]
    assert tally(groups, conflicting=True) == (1, 2)
    assert tally(groups, conflicting=False) == (2, 5)
    leakage = measure_leakage(predictions, numbers)
    assert (leakage.photos, leakage.correct) == (2, 1)
    assert (leakage.other_photos, leakage.other_correct) == (1, 1)
    write_copies(groups, predictions, tmp_path / "copies.tsv")
    lines = (tmp_path / "copies.tsv").read_text().splitlines()
    assert lines[0] == "group\tpath\tclass"
    assert lines[1:3] == ["1\tphotos/a/1.jpg\ta", "1\tphotos/b/3.jpg\tb"]
    assert len(lines) == 8


@pytest.mark.parametrize("accuracy", [0.4, 0.8, 0.98, 1.0])
@pytest.mark.parametrize(("classes", "photos"), [(2, 5), (5, 60), (40, 25)])
def test_the_verdict_is_true_at_any_size(classes: int, photos: int, accuracy: float):
    predictions = made_up(classes, photos, accuracy)
    found = findings.find(run_of(predictions))
    document = document_of(found)
    text = text_of(document)
    correct = int((predictions.scores.argmax(axis=1) == predictions.labels).sum())
    assert f"That is {correct:,} of {classes * photos:,} photos" in text
    low = found.result["interval"][0]
    assert ("not clearly better than guessing" in text) == (low <= 1 / classes)
    steps = advice.next_steps(found)
    assert 1 <= len(steps) <= 6
    for step in steps:
        assert not step.section or f'id="{step.section}"' in document
    assert steps[-1].what.startswith("Use the model") == (low > 1 / classes)
    assert ("Nothing here needs your attention" in text) == (accuracy == 1 and photos >= 20)
    wrong = len(predictions.labels) - correct - len(found.suspects)
    pairs = re.findall(r"class \d+ classified as class \d+ : (\d+)", text)
    assert sum(map(int, pairs)) == wrong or len(pairs) == 12


def test_without_any_held_out_photo_nothing_is_claimed():
    predictions = some_of(made_up(3, 30, 0.9), np.zeros(90, bool))
    run = run_of(predictions, evaluation={"test": None, "cross_validation": None})
    run.photos.update({"class 0": 30, "class 1": 30, "class 2": 30})
    text = text_of(document_of(findings.find(run)))
    assert "the accuracy of the model is unknown" in text
    assert "labels cannot be checked" in text
    assert "90 photos in 3 classes" in text
    assert "%" not in text


def test_a_comparison_made_before_decides_about_the_backbone():
    predictions = made_up(4, 50, 0.8)
    rows = [
        {"backbone": "big", "recipe": "optimum", "photos": 200, "behind": 0.0, "differs": False},
        {"backbone": "net", "recipe": "optimum", "photos": 200, "behind": 0.05, "differs": True},
    ]
    rows = [row | {"milliseconds": 1.0} for row in rows]
    run = run_of(predictions, evaluation={"recipe": "optimum"}, comparison=rows)
    text = text_of(document_of(findings.find(run)))
    assert "Use big with the recipe optimum." in text
    assert "5.0 points better than this model. The difference is statistically significant" in text
    rows[1]["differs"] = False
    text = text_of(document_of(findings.find(run)))
    assert "Use big" not in text
    assert "big (optimum) is the most accurate" in text
    assert "Its lead may be chance: net (optimum) is 5.0 points behind." in text


def test_networks_that_know_the_classes_are_named():
    predictions = made_up(3, 50, 0.8, names=("robin", "Turdus_merula", "bolt"))
    general = "For birds, insects and plants there are backbones"
    commands = {"compare": "snakemake -- compare", "labels": "show --for label_map.txt"}

    def step(**changes) -> advice.Step:
        found = findings.find(run_of(predictions, **changes))
        (step,) = advice._another_backbone(found)
        assert step.command == changes.get("commands", {}).get("compare", "")
        return step

    assert general not in step().why
    unknown = step(commands=commands)
    assert unknown.what == "Try other backbones."
    assert general in unknown.why and "`show --for label_map.txt` says" in unknown.why
    known = {"bird_net": ["robin", "Turdus_merula"], "bolt_net": ["bolt"]}
    named = step(commands=commands, known_classes=known)
    assert named.what == "Try bird_net."
    assert "bird_net knows robin and Turdus_merula by name (2 of 3 classes)." in named.why
    assert "bolt_net knows bolt by name (1 of 3 classes)." in named.why
    assert general not in named.why
    # Not the one that is in use, fine-tuned or not: the report's is called net.
    for own in ("net", "ne"):
        assert step(known_classes={own: ["robin"]}).what == "Try other backbones."


@pytest.mark.parametrize(
    ("backbone", "advised"),
    [
        ({"name": "net", "keras": "net.keras", "mean": 0, "std": 1}, "Check mean, std"),
        ("mobilenet_v1_1.0_224", "Check that the labels fit"),
    ],
)
def test_at_chance_level_the_network_comes_first(backbone: object, advised: str):
    predictions = made_up(5, 60, 0.2)
    found = findings.find(run_of(predictions, settings={"backbone": backbone}))
    steps = advice.next_steps(found)
    assert steps[0].what.startswith(advised)
    # There are suspects and confusions in plenty, of which nothing follows.
    assert len(found.suspects) and found.pairs[0].mistakes > 10
    assert not [step for step in steps if step.section in ("suspects", "mistakes")]


def test_few_photos_are_not_called_many():
    (step,) = advice._too_few_photos(findings.find(run_of(made_up(5, 3, 1.0))))
    assert step.what.startswith("Add photos of every class")
    assert step.why == "A few dozen per class are a good start."
    predictions = made_up(4, 40, 1.0)
    few = some_of(predictions, (predictions.labels > 0) | (np.arange(160) < 5))
    (step,) = advice._too_few_photos(findings.find(run_of(few)))
    assert step.what == "Add photos of this class: class 0 (5)."
    assert step.why.startswith("Half of the classes have 40 photos or more.")


def test_commands_are_the_user_s_own():
    commands = {
        "bundle": "snakemake --cores all --directory 'my birds' -- bundle",
        "compare": "snakemake --cores all --directory 'my birds' -- compare",
        "again": "snakemake --cores all --directory 'my birds' --config seed=0",
        "correct": "snakemake --cores all --directory 'my birds' --config corrections=c.tsv",
    }
    cut = "The network is cut at 'pool' uint8 [1, 8], the pooled vector, because of <that>."
    run = run_of(made_up(4, 50, 0.8), commands=commands, cut=cut)
    text = text_of(document_of(findings.find(run)))
    assert cut in text
    for command in commands.values():
        assert html.unescape(text).count(command) == 1
    run = run_of(made_up(4, 50, 0.8), commands=commands, settings={"corrections": "mine.tsv"})
    text = text_of(document_of(findings.find(run)))
    assert "Replace mine.tsv" in text and "c.tsv" not in text


def test_both_models_are_listed(tmp_path: Path):
    model = tmp_path / "retrained_model.tflite"
    model.write_bytes(b"x" * 2000)
    name = "retrained_model_edgetpu.tflite"
    run = run_of(made_up(4, 50, 0.8), models=[model], edgetpu_model=name)
    text = text_of(document_of(findings.find(run)))
    assert re.search(r"retrained_model\.tflite\s+for the CPU\s+2\.0 kB", text)
    assert re.search(r"retrained_model_edgetpu\.tflite\s+for the Edge TPU", text)


def test_corrections_that_match_nothing_are_not_credited():
    before = history.entry(findings.find(run_of(made_up(4, 50, 0.8)))) | {"time": "2026-01-02T03"}
    missing = [AppliedCorrection(f"{i:064x}", "p", "", "class 1", "missing", "") for i in range(2)]
    found = findings.find(run_of(made_up(4, 50, 0.9), corrections=missing))
    text = text_of(document_of(found, [before]))
    assert "No photo in the dataset has one of your 2 corrections" in text
    assert "were applied" not in text
    assert "corrections raised" not in text


def test_labels_that_were_moved_by_hand_are_a_change():
    before = history.entry(findings.find(run_of(made_up(4, 50, 0.8)))) | {"time": "2026-01-02T03"}
    predictions = made_up(4, 50, 0.9)
    predictions.labels[:3] = 1
    missing = [AppliedCorrection("f" * 64, "p", "", "class 1", "missing", "")]
    found = findings.find(run_of(predictions, corrections=missing))
    assert history.changed(before, history.entry(found)) == ["the labels of photos"]


def test_figures_are_those_of_scikit_learn(digits):
    predictions, _ = digits
    document = document_of(findings.find(run_of(predictions)))
    predicted = predictions.scores.argmax(axis=1)
    matrix = metrics.confusion_matrix(predictions.labels, predicted)
    body = re.search(r'<table class="confusion">.*?<tbody>(.*?)</tbody>', document, re.DOTALL)[1]
    cells = [int(cell or 0) for cell in re.findall(r"<td[^>]*>(\d*)</td>", body)]
    assert np.array_equal(np.reshape(cells, (10, 10)), matrix)
    report = metrics.classification_report(predictions.labels, predicted, output_dict=True)
    classes = document[document.index('id="classes"') :]
    rows = re.findall(r"<tr><td class=\"name\"><bdi>(\d)</bdi></td>(.*?)</tr>", classes)
    assert [name for name, _ in rows] == list("0123456789")
    for name, row in rows:
        cells = re.findall(r">([^<]*)</td>", row)
        expected = report[name]
        assert cells[0] == cells[1] == str(int(expected["support"]))
        assert cells[3] == f"{expected['recall']:.0%}"
        assert cells[5] == f"{expected['precision']:.0%}"
        assert cells[6] == f"{expected['f1-score']:.2f}"


def test_names_are_text_whatever_they_are(tmp_path: Path):
    predictions = made_up(3, 12, 0.7, HOSTILE)
    paths = [f"/x/</script><img src=x onerror=alert({i})>\u202e\"'&\udcff.jpg" for i in range(36)]
    predictions = predictions_of(
        predictions.scores, predictions.labels, HOSTILE, paths=tuple(paths)
    )
    run = run_of(
        predictions,
        np.repeat(np.arange(18), 2),
        skipped=[Skipped("<b>&\udcfe.jpg", "<i>")],
        corrections=[
            AppliedCorrection("f" * 64, "</script>", HOSTILE[0], HOSTILE[1], "relabelled", "<u>")
        ],
        settings={"dataset": "</pre><script>"},
    )
    document = document_of(findings.find(run), folder="results/<s>")
    document.encode("utf-8")
    assert document.count("<script") == 2
    assert document.count("</script>") == 2
    for tag in ("<img src=x", "<b>", "<i>", "<u>", "<s>", "</pre><script>"):
        assert tag not in document
    data = re.search(r'id="data">(.*?)</script>', document, re.DOTALL)[1]
    assert tuple(json.loads(data)["classes"]) == HOSTILE


@pytest.mark.parametrize(
    ("classes", "accuracy", "text"),
    [
        (31, 1.0, "No class was confused with another (620 photos in cross-validation)."),
        (31, 0.99, "There are too many classes for the whole confusion matrix"),
        (60, 0.7, "The 30 most frequent pairs are shown."),
        (30, 0.99, "Rows are true classes"),
    ],
)
def test_confusions_of_many_classes_are_listed(classes: int, accuracy: float, text: str):
    found = findings.find(run_of(made_up(classes, 20, accuracy)))
    document = document_of(found)
    assert text in text_of(document)
    section = document.partition('id="confusion"')[2].partition('id="classes"')[0]
    listed = re.findall(r'<td class="name"><bdi>(.*?)</bdi></td>' * 2, section)
    expected = [(pair.first, pair.second) for pair in found.pairs] if classes > 30 else []
    assert listed == expected[:30]


def test_the_page_asks_nobody_for_anything(digits):
    document = document_of(findings.find(run_of(digits[0])))
    assert "default-src 'none'" in document
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", document)
    assert "http" not in document.replace("http-equiv", "")


def test_the_page_stays_small_however_many_photos(tmp_path: Path):
    number, classes = 20_000, 50
    photo = tmp_path / "noise.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(photo, quality=90)
    names = tuple(f"a class with a long name, number {i}" for i in range(classes))
    predictions = made_up(classes, number // classes, 0.3, names)
    predictions = predictions_of(
        predictions.scores,
        predictions.labels,
        names,
        # One file under many names.
        paths=tuple(f"{tmp_path}/{'./' * (i % 50)}noise.jpg" for i in range(number)),
    )
    groups = np.arange(number) // 3
    skipped = [Skipped(f"photos/{i}.jpg", "the file is empty") for i in range(5000)]
    found = findings.find(run_of(predictions, groups, skipped=skipped))
    assert len(found.suspects) > 1000
    assert len(document_of(found).encode()) < 15_000_000


def test_it_says_what_was_changed_and_what_that_brought(tmp_path: Path):
    predictions = made_up(4, 50, 0.8)
    before = findings.find(run_of(predictions, settings={"dataset": "birds", "seed": 0}))
    own = tmp_path / "runs.json"
    assert history.append([], before, own) == []
    assert history.append(history.read([own]), before, own) == []
    assert len(history.read([own])) == 1
    applied = [
        AppliedCorrection(f"{i:064x}", "p", "class 0", "class 1", "relabelled", "")
        for i in range(3)
    ]
    after = findings.find(
        run_of(made_up(4, 50, 0.9), corrections=applied, settings={"dataset": "birds", "seed": 1})
    )
    earlier = history.append(history.read([own]), after, own)
    assert len(earlier) == 1
    text = text_of(document_of(after, earlier))
    assert "reached 80.0%, this one 90.0%" in text
    assert "Changed since then: 3 corrections instead of 0 and the setting seed." in text
    assert "The corrections and the other changes raised the accuracy by 10.0 points" in text
    assert "Your corrections were applied: 3 relabelled." in text
    assert Counter(re.findall(r"this run", text)) == {"this run": 1}
