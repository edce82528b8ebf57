"""What the report says of photos without a label, and of labels given to many at once."""

import numpy as np

from edgetpu_retrain.index.corrections import IN_A_GROUP, AppliedCorrection
from edgetpu_retrain.report import advice, findings
from tests.unit.test_report import document_of, made_up, run_of


def test_photos_without_a_label_are_a_next_step():
    predictions = made_up(3, 60, 0.99)
    groups = np.arange(len(predictions))
    without = findings.find(run_of(predictions, groups))
    assert not any("label.py" in step.why for step in advice.next_steps(without))
    found = findings.find(run_of(predictions, groups, waiting=1234))
    (step,) = (step for step in advice.next_steps(found) if "label.py" in step.why)
    assert "1,234 photos have no label yet" in step.what
    assert "1,234 photos have no label yet" in document_of(found)


def test_a_label_given_in_a_group_can_be_wrong():
    predictions = made_up(3, 30, 0.7)
    plain = findings.find(run_of(predictions)).suspects.tolist()
    assert len(plain) > 2

    def decided(note: str) -> list[AppliedCorrection]:
        return [
            AppliedCorrection(predictions.identities[row], "x", "", "a", "labelled", note)
            for row in plain
        ]

    alone = findings.find(run_of(predictions, corrections=decided("")))
    assert alone.suspects.tolist() == []
    at_once = findings.find(run_of(predictions, corrections=decided(IN_A_GROUP)))
    assert at_once.suspects.tolist() == plain
