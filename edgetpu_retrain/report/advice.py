"""The verdict on a model and what to do next, in words that hold for any number of photos."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetpu_retrain.report.duplicates import tally
from edgetpu_retrain.report.findings import Findings, Pair, Run
from edgetpu_retrain.report.words import count, fraction, listed, name, percent, points
from edgetpu_retrain.training.intervals import wilson_interval

_MOST_STEPS = 5
# Below these a class or a test is too small to say much.
_FEW_PHOTOS_PER_CLASS = 20
_WIDE_INTERVAL = 0.2
# A doubling of the photos that brought this much is worth another one.
_WORTHWHILE_GAIN = 0.01
_CLEAR_GAIN_IN_PHOTOS = 5
_MIN_CONFUSIONS = 3
_MIN_CONFUSED_SHARE = 0.03
_GOOD_ENOUGH = 0.97
_WEAK = 0.6


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        what: an imperative.
        why: the evidence.
        section: the part of the page that shows it; empty if none does.
    """

    what: str
    why: str
    section: str = ""


def verdict(findings: Findings) -> list[str]:
    """Returns the sentences below the accuracy, each true by itself."""
    result = findings.result
    if result is None:
        return ["No photo was held out of training, so nobody knows how accurate the model is."]
    photos, correct = result["photos"], result["correct"]
    low, high = result["interval"]
    judged = (
        "each judged by a layer trained without it (cross-validation)"
        if findings.source == "cross_validation"
        else "kept from training and judged by the finished file"
    )
    sentences = [
        f"That is {correct:,} of {count(photos, 'photo')}, {judged}. For photos like these the "
        f"true figure is probably between {fraction(low)} and {fraction(high)} (95% interval)."
    ]
    if high - low > _WIDE_INTERVAL:
        sentences.append("So few photos do not allow a closer answer; more photos do.")
    commonest_name, commonest = findings.guess
    share = percent(commonest, photos)
    guess = f"Always answering {name(commonest_name)} would be right on {share} of them."
    if low <= commonest / photos:
        guess = f"This is not clearly better than guessing. {guess}"
    sentences.append(guess)
    sentences += _best_and_weakest(result)
    test = findings.run.evaluation.get("test")
    if test and test["photos"] and findings.source != "test":
        low, high = test["interval"]
        sentences.append(
            f"The finished file was right on {test['correct']:,} of "
            f"{count(test['photos'], 'test photo')} that took no part in training "
            f"({percent(test['correct'], test['photos'])}, 95% interval {fraction(low)} to "
            f"{fraction(high)})."
        )
    other = findings.run.evaluation.get("test_dataset")
    if other and other["photos"]:
        sentences.append(
            f"On the separate test photos (test_dataset) it was right on {other['correct']:,} of "
            f"{other['photos']:,} ({percent(other['correct'], other['photos'])})."
        )
    return sentences


def _best_and_weakest(result: Mapping[str, Any]) -> list[str]:
    classes = {n: c for n, c in result["classes"].items() if c["photos"]}
    shares = {name: c["correct"] / c["photos"] for name, c in classes.items()}
    best, weakest = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    if shares[best] == shares[weakest]:
        return []

    def how(one: str) -> str:
        entry = classes[one]
        return f"{name(one)} ({entry['correct']:,} of {entry['photos']:,} right)"

    return [f"The best class is {how(best)}, the weakest {how(weakest)}."]


def next_steps(findings: Findings) -> list[Step]:
    """Returns what to do next, what matters most first."""
    # A weak model knows little about labels.
    first = [_suspects(findings), _too_few_photos(findings)]
    suspects_and_photos = reversed(first) if _is_weak(findings) else first
    steps = [
        *_contradictions(findings),
        *itertools.chain(*suspects_and_photos),
        *_unlabelled(findings.run),
        *_confused(findings.pairs),
        *_copies(findings),
        *_another_backbone(findings),
        *_skipped(findings),
    ]
    if not steps:
        steps = [
            Step(
                "Use the model.",
                "Nothing on this page asks for work: no label is suspected, no photo was skipped, "
                "and no two classes are often confused.",
            )
        ]
    return steps[:_MOST_STEPS]


def _contradictions(findings: Findings) -> list[Step]:
    groups, photos = tally(findings.groups, different=True)
    if not groups:
        return []
    return [
        Step(
            "Look at look-alikes with different labels.",
            f"{count(photos, 'photo')} in {count(groups, 'group')} look alike but have "
            "different labels. Where two show the same thing, one label is wrong.",
            "copies",
        )
    ]


def _suspects(findings: Findings) -> list[Step]:
    number = len(findings.suspects)
    if not number:
        return []
    why = (
        f"For {'it' if number == 1 else 'them'} another class scored high and the given one low. "
        "A wrong label costs twice: it teaches the model something false and counts a right "
        "answer as a mistake."
    )
    if _is_weak(findings):
        why += " This model is often wrong itself, so expect many of these labels to be right."
    return [Step(f"Look at {count(number, 'photo')} whose label may be wrong.", why, "suspects")]


def _unlabelled(run: Run) -> list[Step]:
    if not run.waiting:
        return []
    return [
        Step(
            f"Label more photos, as far as it pays: {count(run.waiting, 'photo')} "
            f"{'has' if run.waiting == 1 else 'have'} no label yet.",
            "python scripts/label.py shows those that would teach the model the most, suggests a "
            "class for each, and says what the next labels are expected to add.",
        )
    ]


def _is_weak(findings: Findings) -> bool:
    return findings.result is not None and findings.result["accuracy"] < _WEAK


def _too_few_photos(findings: Findings) -> list[Step]:
    photos = findings.run.photos
    median = float(np.median(list(photos.values())))
    small = [one for one in photos if photos[one] < max(median / 2, _FEW_PHOTOS_PER_CLASS)]
    small.sort(key=lambda one: (photos[one], one))
    said, rising = curve(findings)
    if small:
        some = listed([f"{name(one)} ({photos[one]:,})" for one in small])
        whose = f"these classes: {some}" if len(small) < len(photos) else f"every class: {some}"
        return [
            Step(
                f"Add photos of {whose}.",
                f"At least half of the classes have {median:,.0f} photos or more; a few dozen are "
                f"a good start. {said}".strip(),
                "learning-curve" if said else "classes" if findings.result else "",
            )
        ]
    return [Step("Add photos.", said, "learning-curve")] if rising else []


def curve(findings: Findings) -> tuple[str, bool]:
    """Says what the last photos brought, and whether more are worth it."""
    steps = findings.run.evaluation.get("learning_curve") or []
    if findings.result is None or len(steps) < 2:
        return "", False
    before, after = steps[-2], steps[-1]
    gain = after["accuracy"] - before["accuracy"]
    said = f"Going from {before['photos']:,} to {after['photos']:,} photos, accuracy "
    if abs(gain) < _WORTHWHILE_GAIN:
        said += f"changed by {points(gain)}: more of the same kind will hardly change it. "
        return said + "Photos from other days, places and cameras may.", False
    said += f"{'rose' if gain > 0 else 'fell'} by {points(gain)} to {fraction(after['accuracy'])}"
    if abs(gain) * findings.result["photos"] < _CLEAR_GAIN_IN_PHOTOS or gain < 0:
        return said + ", which may be chance.", False
    return said + ": it has not levelled off, so more photos probably help.", True


def _confused(pairs: Sequence[Pair]) -> list[Step]:
    steps = []
    for pair in pairs[:1]:
        if pair.mistakes >= _MIN_CONFUSIONS and pair.mistakes >= _MIN_CONFUSED_SHARE * pair.photos:
            steps.append(
                Step(
                    f"See why {name(pair.first)} and {name(pair.second)} are confused.",
                    f"{pair.mistakes:,} of their {pair.photos:,} photos were taken for the other "
                    "class. Photos that show the difference help most; if even you cannot tell "
                    "them apart, make them one class.",
                    "mistakes",
                )
            )
    return steps


def _copies(findings: Findings) -> list[Step]:
    same, photos = tally(findings.groups, different=False)
    extra = photos - same
    if not extra:
        return []
    tests = findings.copied_tests
    why = (
        f"{count(extra, 'photo')} {'is' if extra == 1 else 'are'} much like another of the same "
        "class. From a copy the model learns nothing new."
    )
    if tests.photos and tests.other_photos:
        why += (
            f" {count(tests.photos, 'test photo')} {'has' if tests.photos == 1 else 'have'} one in "
            f"training; on the other {tests.other_photos:,} the file was right on "
            f"{percent(tests.other_correct, tests.other_photos)}."
        )
    return [Step(f"Look at {count(same, 'group')} of look-alikes for copies.", why, "copies")]


def _another_backbone(findings: Findings) -> list[Step]:
    result, run = findings.result, findings.run
    if run.comparison:
        return _compared(run)
    if result is None or result["accuracy"] >= _GOOD_ENOUGH:
        return []
    return [
        Step(
            "Try another backbone (snakemake --cores all compare).",
            f"This model uses {run.backbone}. Which network does best on your photos is "
            "known only by trying; the photos are split in the same way for each.",
        )
    ]


def _compared(run: Run) -> list[Step]:
    """Says which backbone and recipe to take, where the compared ones have a better one."""
    best = run.comparison[0]
    own = (run.backbone, run.evaluation.get("recipe"))
    for row in run.comparison:
        if (row["backbone"], row["recipe"]) == own and row["differs"]:
            return [
                Step(
                    f"Take {best['backbone']} with the recipe {best['recipe']}.",
                    f"Of those compared it is the most accurate on these photos, "
                    f"{points(row['behind'])} ahead of this one, by more than chance.",
                    "compared",
                )
            ]
    return []


def _skipped(findings: Findings) -> list[Step]:
    skipped, number = findings.run.skipped, findings.run.num_skipped
    if not skipped:
        return []
    are = "is" if number == 1 else "are"
    return [
        Step(
            f"See why {count(number, 'photo')} {are} not used.",
            f"Of the first: {skipped[0].reason}.",
            "skipped",
        )
    ]


def class_intervals(result: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Returns the 95 % interval of the recall of every class that has photos."""
    return {
        name: wilson_interval(entry["correct"], entry["photos"])
        for name, entry in result["classes"].items()
        if entry["photos"]
    }
