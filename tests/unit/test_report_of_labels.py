"""What the report says of labels that were given to many photos at once."""

from edgetpu_retrain.index.corrections import IN_A_GROUP, AppliedCorrection
from edgetpu_retrain.report import findings
from tests.unit.test_report import made_up, run_of


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
