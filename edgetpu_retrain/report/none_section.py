"""Says how well the class `none` tells photos of other things from those of the classes."""

from collections.abc import Mapping
from typing import Any

from edgetpu_retrain.head import NONE
from edgetpu_retrain.report import words

_MAX_NAMES = 6


def known_text(none: Mapping[str, Any]) -> str:
    """Says how many photos of the classes became `none`; `none` is that part of evaluation.json."""
    rejected, photos = totals(none["known"])
    verb = "was" if rejected == 1 else "were"
    return (
        f"{rejected:,} of {words.count(photos, 'photo')} of the classes "
        f"({words.percent(rejected, photos)}) {verb} taken for none of them."
    )


def strangers_text(none: Mapping[str, Any]) -> str:
    """Says which classes the photos of other things got; empty without such photos."""
    strangers = none["strangers"]
    if not strangers:
        return ""
    photos, rejected = sum(strangers.values()), strangers[NONE]
    text = (
        f"{rejected:,} of {words.count(photos, 'photo')} of other things "
        f"({words.percent(rejected, photos)}) were recognized as such."
    )
    others = {name: n for name, n in strangers.items() if n and name != NONE}
    if others:
        names = sorted(others, key=lambda name: (-others[name], name))
        listed = words.join([f"{name} ({others[name]:,})" for name in names], most=_MAX_NAMES)
        text += f" The others were taken for {listed}."
    return text


def left_out_text(none: Mapping[str, Any]) -> str:
    """Says how many photos of a class left out of training became `none`; empty without classes."""
    if not none["left_out"]:
        return ""
    rejected, photos = totals(none["left_out"])
    return (
        "New things of the same kind are harder. When each class in turn was left out, "
        f"{words.percent(rejected, photos)} of its photos became none; the others would be taken "
        "for one of the remaining classes. What your camera sees often should be a class of its "
        "own, or be in a class none with photos."
    )


def totals(counts: Mapping[str, Mapping[str, int]]) -> tuple[int, int]:
    """Returns how many photos of all classes became `none`, and how many photos there are."""
    rows = counts.values()
    return sum(row["none"] for row in rows), sum(row["photos"] for row in rows)


def section(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the template's variables; empty ones for a model that cannot tell other things."""
    none = evaluation.get("none")
    if not none:
        return {"none_texts": [], "none_rows": []}
    texts = [
        f"In cross-validation, {known_text(none)}",
        strangers_text(none)
        or "How many photos of other things become none was not measured: name a folder of such "
        "photos under strangers in config.yaml.",
        left_out_text(none),
    ]
    rows = []
    for name, known in none["known"].items():
        row = {"name": name, "photos": known["photos"]}
        for key, counts in (("lost", known), ("left_out", none["left_out"].get(name))):
            row[key], row[f"{key}_value"] = "", -1
            if counts and counts["photos"]:
                row[key] = words.percent(counts["none"], counts["photos"])
                row[f"{key}_value"] = counts["none"] / counts["photos"]
        rows.append(row)
    return {"none_texts": [text for text in texts if text], "none_rows": rows}
