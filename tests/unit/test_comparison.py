"""Which of several candidates is better, and by more than chance."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain.report import comparison
from edgetpu_retrain.report.comparison import Candidate
from edgetpu_retrain.report.page import comparison_verdict


def candidate(name: str, right: np.ndarray, milliseconds: float = 1.0) -> Candidate:
    photos = np.array([b"%03d" % i for i in range(len(right))], "S32")
    return Candidate(name, "optimum", photos, right.astype(bool), milliseconds, 4_000_000, 2.2)


def test_a_paired_interval_covers_the_truth():
    """Of 1,000 draws of two that differ by a known amount, 95 % of the intervals hold it."""
    draw = np.random.default_rng(0)
    for photos in (20, 300):
        covered = 0
        for _ in range(1000):
            hard = draw.random(photos)
            # Right where a photo is easy enough, and alike on the same photo.
            first = hard + 0.2 * draw.random(photos) < 0.95
            second = hard + 0.2 * draw.random(photos) < 0.85
            low, high = comparison.paired_interval(first, second)
            covered += low <= 0.1 <= high
        # It is wider than it need be where photos are few.
        assert covered >= 930
        assert photos < 300 or covered <= 970


def test_a_paired_interval_is_narrower_than_one_of_unpaired_photos():
    first = np.arange(400) < 360
    second = np.arange(400) < 340
    low, high = comparison.paired_interval(first, second)
    unpaired = 1.96 * np.sqrt(0.9 * 0.1 / 400 + 0.85 * 0.15 / 400)
    assert low > 0
    assert high - low < 2 * unpaired


def test_candidates_are_ranked_on_the_photos_that_all_judged(tmp_path: Path):
    right = np.arange(500) < 450
    worse = np.arange(500) < 400
    near = right.copy()
    near[:2] = False
    extra = candidate("near", np.append(near, [False] * 100), milliseconds=0.5)
    rows = comparison.compare([candidate("worse", worse), extra, candidate("best", right)])
    assert [row["backbone"] for row in rows] == ["best", "near", "worse"]
    assert [row["correct"] for row in rows] == [450, 448, 400]
    assert {row["photos"] for row in rows} == {500}
    assert [row["differs"] for row in rows] == [False, False, True]
    assert rows[2]["behind"] == pytest.approx(0.1)
    verdict = comparison_verdict(rows)
    # The most accurate comes first, not the fastest.
    assert re.search(
        r"best \(optimum\) is the most accurate.* near \(optimum\), [\d.]+ points", verdict
    )
    assert "near (optimum) is the fastest on the CPU" in verdict
    assert "4.0 MB" in comparison.as_text(rows)
    comparison.write_table(rows, tmp_path / "comparison.json")
    assert json.loads((tmp_path / "comparison.json").read_text()) == rows
    comparison.write_page(rows, "<script>", tmp_path / "comparison.html")
    page = (tmp_path / "comparison.html").read_text()
    assert page.count("<script") == 1
    assert verdict.replace("'", "&#39;") in page
    assert page.count("may be chance") == 3


def test_what_is_sent_for_every_image_is_named():
    right = np.arange(50) < 40
    # What Inception v3 sends, which is why it takes 43 ms.
    big = dataclasses.replace(candidate("big", right), streamed_bytes=16_500_000)
    small = dataclasses.replace(candidate("small", right), streamed_bytes=0)
    rows = comparison.compare([big, small])
    assert [row["streamed_bytes"] for row in rows] == [16_500_000, 0]
    said = comparison_verdict(rows)
    assert "big (optimum) does not fit in the Edge TPU's memory: 16.5 MB are sent to it" in said
    assert "small (optimum) does not fit" not in said


def test_nothing_is_said_of_photos_that_nobody_judged():
    rows = comparison.compare([candidate("a", np.array([])), candidate("b", np.array([]))])
    assert "they cannot be compared" in comparison_verdict(rows)
    assert "optimum" in comparison.as_text(rows)
