"""What fine-tuning did, in a sentence or two."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgetpu_retrain.io import files
from edgetpu_retrain.report import words


class _Trial(BaseModel):
    layers: int
    accuracy: float


class _FineTuning(BaseModel):
    layers: int
    photos: int
    held_out: int
    trials: list[_Trial]


def read(path: str | Path) -> dict[str, Any]:
    """Returns the content of fine_tuning.json.

    Raises:
        UserError: the file is damaged.
    """
    content: dict[str, Any] = files.read_json(path, _FineTuning)
    return content


def describe_nested(photos: int) -> str:
    """Says how photos were cross-validated that the network was fine-tuned on.

    Args:
        photos: their number.
    """
    return (
        "In cross-validation, each photo was judged by a network and a layer that have not seen "
        f"it: {words.count(photos, 'photo')} that the network was fine-tuned on, by others that "
        "were fine-tuned without them."
    )


def describe(content: Mapping[str, Any]) -> str:
    """Describes the content of fine_tuning.json.

    >>> trials = [{"layers": 0, "accuracy": 0.9}, {"layers": 8, "accuracy": 0.95}]
    >>> content = {"layers": 8, "photos": 800, "held_out": 200, "trials": trials}
    >>> describe(content).split(". ")[0]
    'The last 8 layers of the network were fine-tuned on 800 photos'
    """
    trials = content["trials"]
    before = next(trial for trial in trials if not trial["layers"])
    if not content["layers"]:
        tried = " or ".join(str(trial["layers"]) for trial in trials if trial["layers"])
        return (
            f"Fine-tuning was tried on the last {tried} layers of the network. It did not help on "
            f"the {words.count(content['held_out'], 'photo')} held out from it, so the network was "
            "left as it is."
        )
    after = next(trial for trial in trials if trial["layers"] == content["layers"])
    layers = words.count(content["layers"], "layer")
    return (
        f"The last {layers} of the network were fine-tuned on "
        f"{words.count(content['photos'], 'photo')}. Of the "
        f"{words.count(content['held_out'], 'photo')} held out from that, "
        f"{words.fraction(after['accuracy'])} are correct, compared with "
        f"{words.fraction(before['accuracy'])} before."
    )
