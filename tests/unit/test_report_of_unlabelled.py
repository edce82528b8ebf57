"""What the report says of photos without a label: flowers of four classes, and tulips unknown."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from benchmarks import labelling as benchmark
from edgetpu_retrain.evaluation.unlabelled import Unlabelled, describe
from edgetpu_retrain.head import Head
from edgetpu_retrain.report import advice, findings
from tests.browser import open_browser, set_window
from tests.unit.test_choosing import EXTRACTOR
from tests.unit.test_report import HOSTILE, document_of, made_up, run_of

TULIPS = 4


@pytest.fixture(scope="module")
def flowers(photos: Path, models: Path, tmp_path_factory) -> benchmark.Photos:
    return benchmark.load(photos, models / EXTRACTOR, tmp_path_factory.mktemp("embedded"))


@pytest.fixture(scope="module")
def known(flowers: benchmark.Photos) -> np.ndarray:
    drawn = np.random.default_rng(1).permutation(len(flowers.truth)) < len(flowers.truth) // 3
    return drawn & (flowers.truth != TULIPS)


@pytest.fixture(scope="module")
def model(flowers: benchmark.Photos, known: np.ndarray) -> LogisticRegression:
    return LogisticRegression(C=0.01, max_iter=2_000).fit(
        flowers.embedded[known], flowers.truth[known]
    )


@pytest.fixture(scope="module")
def found(flowers: benchmark.Photos, known: np.ndarray, model: LogisticRegression) -> Unlabelled:
    head = Head(
        model.coef_.T.astype(np.float32),
        model.intercept_.astype(np.float32),
        None,
        flowers.embedded.classes[:TULIPS],
    )
    embedded = flowers.embedded
    labelled = embedded.vectors[embedded.rows[known]]
    return describe(embedded.select(~known), labelled, flowers.groups[known], head, 0.9)


def test_photos_are_classified_as_another_program_does(flowers, known, model, found):
    scores = model.predict_proba(flowers.embedded[~known])
    np.testing.assert_allclose(found.scores, scores.max(axis=1), atol=1e-4)
    assert np.mean(found.predicted == scores.argmax(axis=1)) > 0.998
    assert np.mean(found.second == np.argsort(scores, axis=1)[:, -2]) > 0.99
    assert found.paths.tolist() == flowers.embedded.paths[~known].tolist()


def test_those_that_teach_the_most_are_uncertain_and_unlike_each_other(
    flowers, known, model, found
):
    two = np.sort(model.predict_proba(flowers.embedded[~known]), axis=1)[:, -2:]
    margins = two[:, 1] - two[:, 0]
    assert len({*found.teaching.tolist()}) == len(found.teaching) == 50
    assert margins[found.teaching].max() <= np.sort(margins)[400]
    places = flowers.places[~known]

    def nearest(rows: np.ndarray) -> float:
        cosines = places[rows] @ places[rows].T - 2 * np.eye(len(rows))
        return float(cosines.max(axis=1).mean())

    assert nearest(found.teaching) < nearest(np.argsort(margins)[:50]) - 0.05


def test_the_surest_of_a_class_are_of_it(found):
    for label, rows in enumerate(found.surest):
        assert len(rows) == 5
        assert (found.predicted[rows] == label).all()
        assert found.scores[rows].min() > np.median(found.scores[found.predicted == label])


def test_a_missing_class_is_in_groups_unlike_the_others(flowers, known, found):
    is_tulip = (flowers.truth == TULIPS)[~known]
    assert found.num_unlike >= sum(map(len, found.unlike))
    assert all(len(rows) >= 3 for rows in found.unlike)
    shown = np.concatenate(found.unlike[:3])
    assert is_tulip[shown].mean() > is_tulip.mean() + 0.25


def run_with(found: Unlabelled | None) -> findings.Findings:
    return findings.find(run_of(made_up(3, 60, 0.99), unlabelled=found))


def test_the_page_says_what_there_is(found):
    assert "Photos without a label" not in document_of(run_with(None))
    text = document_of(run_with(found))
    photos, sure = len(found.paths), int(np.sum(found.scores >= 0.9))
    assert f"{photos} photos have no label yet. For {sure} of them" in text
    (step,) = (step for step in advice.next_steps(run_with(found)) if step.section == "unlabelled")
    assert f"{photos} photos have no label yet" in step.what
    assert "No score is high enough for 95%" in document_of(
        run_with(replace(found, threshold=None))
    )
    nothing = replace(found, num_unlike=0, unlike=[])
    assert "Unlike any labelled photo" not in document_of(run_with(nothing))


def test_a_photo_can_be_labelled_in_the_page(found, tmp_path: Path):
    """Its line is as the labelling page writes it; nothing is wider than a telephone."""
    hostile = replace(found, classes=(*HOSTILE, "tulip"))
    page = tmp_path / "report.html"
    page.write_text(document_of(run_with(hostile)), "utf-8")
    row = int(found.teaching[0])
    name = hostile.classes[found.predicted[row]]
    with open_browser() as browser:
        set_window(browser, 390)
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        box = f"document.querySelector('[data-sha256=\"{found.identities[row]}\"]')"
        button = f"[...{box}.querySelectorAll('button')].find(b => b.value === arguments[0])"
        browser.execute_script(f"{button}.click()", name)
        assert "1 photo reviewed" in browser.find_element("id", "bar").text
        saved = browser.execute_script(
            "return Object.entries(localStorage).filter(([key]) => key.startsWith('corrections'))"
        )
    (line,) = saved
    assert f'"{found.identities[row]}":' in line[1]
    assert '"note":""' in line[1]
