"""What the report says of photos of other things."""

import numpy as np

from edgetpu_retrain.report import findings, none_section
from tests.unit.test_report import document_of, predictions_of, run_of

NONE = {
    "known": {"bee": {"photos": 250, "none": 2}, "wasp": {"photos": 150, "none": 1}},
    "left_out": {"bee": {"photos": 250, "none": 25}, "wasp": {"photos": 150, "none": 45}},
    "strangers": {"bee": 1, "wasp": 4, "none": 45},
}


def test_what_is_lost_and_what_is_found():
    found = none_section.section({"none": NONE})
    known, strangers, left_out = found["none_texts"]
    assert "3 of 400 photos of the classes (0.8%) were taken for none of them" in known
    assert strangers == (
        "45 of 50 photos of other things (90%) were recognized as such. The others were taken for "
        "wasp (4) and bee (1)."
    )
    assert "17.5% of its photos became none" in left_out
    assert [row["lost"] for row in found["none_rows"]] == ["0.8%", "1%"]
    assert [row["left_out"] for row in found["none_rows"]] == ["10.0%", "30%"]
    assert none_section.section({}) == {"none_texts": [], "none_rows": []}


def test_without_photos_of_other_things_that_is_said():
    found = none_section.section({"none": NONE | {"strangers": None, "left_out": {}}})
    assert len(found["none_texts"]) == 2
    assert "was not measured" in found["none_texts"][1]
    assert all(row["left_out"] == "" for row in found["none_rows"])


def page_of(**evaluation) -> str:
    """A report on ten photos of two classes, one of which became `none`."""
    labels = np.arange(10) % 2
    scores = np.column_stack([np.eye(2)[labels] * 0.9 + 0.05, np.zeros(10)])
    scores[3] = 0.02, 0.02, 0.96
    predictions = predictions_of(scores, labels, ("bee", "wasp", "none"))
    run = run_of(predictions, evaluation=evaluation)
    del run.photos["none"]
    return document_of(findings.find(run))


def test_the_page_has_a_section_only_with_the_class():
    page = page_of(none=NONE)
    assert '<h2 id="none">Photos of other things</h2>' in page
    assert "45 of 50 photos of other things (90%)" in page
    # Nobody can label a photo as one of no class; it can be left out.
    assert '"classes": ["bee", "wasp"]' in page
    assert '<button type="button" value="none">' not in page
    without = page_of()
    assert '<h2 id="none">' not in without
    assert "set <code>none: auto</code>" in without
