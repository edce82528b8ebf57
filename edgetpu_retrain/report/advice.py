"""Writes the verdict on a model and the next steps, in sentences that suit any number of photos."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetpu_retrain.report.duplicates import tally
from edgetpu_retrain.report.findings import Findings, Pair, Run
from edgetpu_retrain.report.words import count, fraction, isolate, join, percent, points
from edgetpu_retrain.training import recipes
from edgetpu_retrain.training.intervals import wilson_interval

_MAX_STEPS = 5
# Below this, a class has too few photos.
_MIN_PHOTOS_PER_CLASS = 20
# Above this, the accuracy is only roughly known.
_WIDE_INTERVAL = 0.2
# If the last doubling of the photos gained less accuracy, another doubling is not worthwhile.
_WORTHWHILE_GAIN = 0.01
# A gain of fewer photos may be chance.
_CLEAR_GAIN_IN_PHOTOS = 5
_MIN_CONFUSIONS = 3
_MIN_CONFUSED_SHARE = 0.03
_GOOD_ACCURACY = 0.97
_WEAK_ACCURACY = 0.6


@dataclass(frozen=True)
class Step:
    """A recommended next step.

    Attributes:
        what: the instruction, an imperative sentence.
        why: the evidence for it.
        section: id of the section of the page that shows the evidence; empty if none does.
        command: the command that does it; empty if there is none.
    """

    what: str
    why: str
    section: str = ""
    command: str = ""


def verdict(findings: Findings) -> list[str]:
    """Returns the sentences below the accuracy; each one stands on its own."""
    result = findings.result
    if result is None:
        return ["No photo was held out of training, so the accuracy of the model is unknown."]
    photos, correct = result["photos"], result["correct"]
    low, high = result["interval"]
    method = (
        "each classified by a layer that was trained without it (cross-validation)"
        if findings.source == "cross_validation"
        else "held out of training and classified by the finished model"
    )
    sentences = [
        f"That is {correct:,} of {count(photos, 'photo')}, {method}. For photos like these, the "
        f"true accuracy is probably between {fraction(low)} and {fraction(high)} (95% confidence "
        "interval)."
    ]
    if high - low > _WIDE_INTERVAL:
        sentences.append("The interval is wide because there are few photos; more would narrow it.")
    name, majority = findings.majority_class
    if _is_at_chance(findings):
        sentences.append("The model is not clearly better than guessing.")
    sentences.append(
        f"Always predicting the most common class, {isolate(name)}, would be correct for "
        f"{percent(majority, photos)} of the photos."
    )
    sentences += _best_and_weakest(result)
    test = findings.run.evaluation.get("test")
    if test and test["photos"] and findings.source != "test":
        low, high = test["interval"]
        sentences.append(
            f"The finished model classified {test['correct']:,} of "
            f"{count(test['photos'], 'test photo')} correctly "
            f"({percent(test['correct'], test['photos'])}, 95% confidence interval {fraction(low)} "
            f"to {fraction(high)}). Test photos take no part in training."
        )
    test_dataset = findings.run.evaluation.get("test_dataset")
    if test_dataset and test_dataset["photos"]:
        sentences.append(
            "On the separate test dataset (test_dataset), the finished model classified "
            f"{test_dataset['correct']:,} of {count(test_dataset['photos'], 'photo')} correctly "
            f"({percent(test_dataset['correct'], test_dataset['photos'])})."
        )
    return sentences


def _best_and_weakest(result: Mapping[str, Any]) -> list[str]:
    classes = {name: entry for name, entry in result["classes"].items() if entry["photos"]}
    recalls = {name: entry["correct"] / entry["photos"] for name, entry in classes.items()}
    best, weakest = max(recalls, key=recalls.__getitem__), min(recalls, key=recalls.__getitem__)
    if recalls[best] == recalls[weakest]:
        return []

    def with_recall(name: str) -> str:
        entry = classes[name]
        return f"{isolate(name)} ({entry['correct']:,} of {entry['photos']:,} correct)"

    return [f"The best class is {with_recall(best)}, the weakest {with_recall(weakest)}."]


def next_steps(findings: Findings) -> list[Step]:
    """Returns the recommended steps, most important first; the last one is to use the model."""
    if _is_at_chance(findings):
        # What the predictions say about single photos and classes means nothing.
        return [_check_network(findings), *_too_few_photos(findings), *_skipped(findings)]
    suspects, photos = _suspects(findings), _too_few_photos(findings)
    # The suspects of a weak model are unreliable, so more photos come first.
    first = [photos, suspects] if _is_weak(findings) else [suspects, photos]
    others = _another_backbone(findings)
    # A network that knows the classes by name may gain more than what follows.
    known, unknown = (others, []) if _networks_that_know(findings.run) else ([], others)
    steps = [
        *_conflicting_labels(findings),
        *itertools.chain(*first),
        *known,
        *_unlabelled(findings.run),
        *_confused(findings.pairs),
        *_copies(findings),
        *unknown,
        *_skipped(findings),
    ]
    why = "The bundle is a folder with the model, a program that runs it and a test of the board."
    if not steps:
        why = (
            "Nothing here needs your attention: no label looks wrong, no file was skipped, and "
            f"no two classes are often confused. {why}"
        )
    use = Step("Use the model on a device.", why, command=findings.run.commands.get("bundle", ""))
    return [*steps[:_MAX_STEPS], use]


def _is_at_chance(findings: Findings) -> bool:
    """Returns whether the model may be no better than always predicting the same class."""
    if findings.result is None:
        return False
    _, majority = findings.majority_class
    return bool(findings.result["interval"][0] <= majority / findings.result["photos"])


def _check_network(findings: Findings) -> Step:
    if isinstance(findings.run.settings.get("backbone"), Mapping):
        return Step(
            "Check mean, std and the network.",
            "Such a result often means that pixels are not scaled as in the network's training: "
            "mean and std in `backbone` must be those that it was trained with. If they are, try a "
            "backbone from the catalogue, to see whether the network or the photos are to blame.",
        )
    return Step(
        "Check that the labels fit the photos.",
        "This backbone is known to work. The folders may not say what the photos show, or the "
        "difference between the classes may not be visible in them.",
    )


def _conflicting_labels(findings: Findings) -> list[Step]:
    groups, photos = tally(findings.groups, conflicting=True)
    if not groups:
        return []
    return [
        Step(
            "Check look-alike photos with different labels.",
            f"{count(photos, 'photo')} in {count(groups, 'group')} look alike but have different "
            "labels. If two of them show the same thing, one label is wrong.",
            "copies",
        )
    ]


def _suspects(findings: Findings) -> list[Step]:
    number = len(findings.suspects)
    if not number:
        return []
    why = (
        "Another class scored high and the given one low. A wrong label does harm twice: the model "
        "learns something wrong, and a correct prediction counts as a mistake."
    )
    if _is_weak(findings):
        why += " This model is often wrong itself, so expect many of these labels to be correct."
    labels = "label" if number == 1 else "labels"
    return [Step(f"Check {count(number, 'photo')} whose {labels} may be wrong.", why, "suspects")]


def _unlabelled(run: Run) -> list[Step]:
    if not run.unlabelled:
        return []
    waiting = len(run.unlabelled.paths)
    return [
        Step(
            f"Label more photos, as far as it pays: {count(waiting, 'photo')} "
            f"{'has' if waiting == 1 else 'have'} no label yet.",
            "python scripts/label.py shows those that would teach the model the most, suggests a "
            "class for each, and says what the next labels are expected to add.",
            "unlabelled",
        )
    ]


def _is_weak(findings: Findings) -> bool:
    return findings.result is not None and findings.result["accuracy"] < _WEAK_ACCURACY


def _too_few_photos(findings: Findings) -> list[Step]:
    photos = findings.run.photos
    median = float(np.median(list(photos.values())))
    small = [name for name in photos if photos[name] < max(median / 2, _MIN_PHOTOS_PER_CLASS)]
    small.sort(key=lambda name: (photos[name], name))
    gain, worthwhile = learning_curve(findings)
    if small:
        examples = join([f"{isolate(name)} ({photos[name]:,})" for name in small])
        if len(small) == len(photos):
            which = f"every class: {examples}"
        else:
            which = f"{'this class' if len(small) == 1 else 'these classes'}: {examples}"
        why = "A few dozen per class are a good start."
        if median >= _MIN_PHOTOS_PER_CLASS:
            why = f"Half of the classes have {count(round(median), 'photo')} or more. {why}"
        return [
            Step(
                f"Add photos of {which}.",
                f"{why} {gain}".strip(),
                "learning-curve" if gain else "classes" if findings.result else "",
            )
        ]
    return [Step("Add photos.", gain, "learning-curve")] if worthwhile else []


def learning_curve(findings: Findings) -> tuple[str, bool]:
    """Says how much the last doubling of the training photos gained.

    Returns:
        The sentences, empty without a learning curve; and whether more photos probably help.
    """
    steps = findings.run.evaluation.get("learning_curve") or []
    if findings.result is None or len(steps) < 2:
        return "", False
    before, after = steps[-2], steps[-1]
    gain = after["accuracy"] - before["accuracy"]
    text = f"From {before['photos']:,} to {count(after['photos'], 'training photo')}, the accuracy "
    if abs(gain) < _WORTHWHILE_GAIN:
        text += f"changed by only {points(gain)}: more photos of the same kind will hardly help. "
        return text + "Photos from other days, places and cameras may.", False
    text += f"{'rose' if gain > 0 else 'fell'} by {points(gain)} to {fraction(after['accuracy'])}"
    if abs(gain) * findings.result["photos"] < _CLEAR_GAIN_IN_PHOTOS or gain < 0:
        return text + ", which may be chance.", False
    return text + " and has not levelled off, so more photos will probably help.", True


def _confused(pairs: Sequence[Pair]) -> list[Step]:
    steps = []
    for pair in pairs[:1]:
        if pair.mistakes >= _MIN_CONFUSIONS and pair.mistakes >= _MIN_CONFUSED_SHARE * pair.photos:
            steps.append(
                Step(
                    f"Find out why {isolate(pair.first)} and {isolate(pair.second)} are confused.",
                    f"{pair.mistakes:,} of their {pair.photos:,} photos were classified as the "
                    "other class. Photos that show the difference help most. If you cannot tell "
                    "the classes apart yourself, merge them.",
                    "mistakes",
                )
            )
    return steps


def _copies(findings: Findings) -> list[Step]:
    groups, photos = tally(findings.groups, conflicting=False)
    extra = photos - groups
    if not extra:
        return []
    leakage = findings.leakage
    why = (
        f"{count(extra, 'photo')} {'looks' if extra == 1 else 'look'} much like another photo of "
        "the same class. The model learns nothing new from copies."
    )
    if leakage.photos and leakage.other_photos:
        why += (
            f" {count(leakage.photos, 'test photo')} {'has' if leakage.photos == 1 else 'have'} a "
            "look-alike in training, which makes the test easier; on the other "
            f"{leakage.other_photos:,}, the accuracy is "
            f"{percent(leakage.other_correct, leakage.other_photos)}."
        )
    what = f"Check {count(groups, 'group')} of look-alike photos for copies."
    return [Step(what, why, "copies")]


def _another_backbone(findings: Findings) -> list[Step]:
    result, run = findings.result, findings.run
    if run.comparison:
        return _compared(run)
    if result is None or result["accuracy"] >= _GOOD_ACCURACY:
        return []
    known = _networks_that_know(run)
    sentences = [
        f"This model uses the backbone {run.backbone}. Only a comparison shows which one is best "
        "for your photos.",
        *(
            f"{name} knows {join(classes)} by name ({len(classes)} of "
            f"{count(len(run.photos), 'class', 'classes')})."
            for name, classes in known.items()
        ),
    ]
    if known:
        what = f"Try {next(iter(known))}."
        sentences.append("Add it to compare in config.yaml.")
    else:
        what = "Try other backbones."
        if command := run.commands.get("labels"):
            sentences.append(
                "For birds, insects and plants there are backbones that were trained on them; add "
                f"one to compare in config.yaml. `{command}` says which of them know your classes "
                "by name."
            )
    return [Step(what, " ".join(sentences), command=run.commands.get("compare", ""))]


def _networks_that_know(run: Run) -> dict[str, Sequence[str]]:
    """Returns the classes that other networks know by name, by the networks' names."""
    # The name of a fine-tuned network begins with that of the network it is made from.
    return {
        name: classes
        for name, classes in run.known_classes.items()
        if not run.backbone.startswith(name)
    }


def _compared(run: Run) -> list[Step]:
    """Recommends the best backbone and recipe, if its lead is statistically significant."""
    best = run.comparison[0]
    training = run.settings.get("training") or {"recipe": run.evaluation.get("recipe")}
    own = (run.backbone, recipes.folder_name(training))
    for row in run.comparison:
        if (row["backbone"], row["recipe"]) == own and row["differs"]:
            return [
                Step(
                    f"Use {best['backbone']} with the recipe {best['recipe']}.",
                    "It is the most accurate of those compared on these photos, "
                    f"{points(row['behind'])} better than this model. The difference is "
                    "statistically significant. To use it, move what its entry under compare says "
                    "to the top level of config.yaml.",
                    "compared",
                )
            ]
    return []


def _skipped(findings: Findings) -> list[Step]:
    skipped, number = findings.run.skipped, findings.run.num_skipped
    if not skipped:
        return []
    verb, label = ("was", "The reason") if number == 1 else ("were", "The reason for the first one")
    return [
        Step(
            f"Check why {count(number, 'file')} {verb} skipped.",
            f"{label}: {skipped[0].reason}.",
            "skipped",
        )
    ]


def class_intervals(result: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Returns the 95% interval of the recall of every class that has photos."""
    return {
        name: wilson_interval(entry["correct"], entry["photos"])
        for name, entry in result["classes"].items()
        if entry["photos"]
    }
