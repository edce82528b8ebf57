"""Keeps a history of runs (runs.json), so that a report can say what changed since the last one."""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgetpu_retrain.index import corrections
from edgetpu_retrain.io import files
from edgetpu_retrain.report.findings import Findings
from edgetpu_retrain.report.words import count, join, percent, points

_MAX_ENTRIES = 100
_INPUTS = ("manifest.tsv", "the extractor")


class _Entry(BaseModel):
    """What `entry` returns, with the run's time."""

    time: str
    backbone: str
    photos: int
    classes: dict[str, int]
    corrections: int
    settings: dict[str, Any]
    inputs: dict[str, str | None]
    source: str | None
    judged: int
    correct: int


def entry(findings: Findings) -> dict[str, Any]:
    """Returns the history entry of a run, without its time: its result and its input."""
    run, result = findings.run, findings.result
    return {
        "backbone": run.backbone,
        "photos": sum(run.photos.values()),
        "classes": dict(run.photos),
        "corrections": sum(one.outcome != corrections.MISSING for one in run.corrections),
        "settings": dict(run.settings),
        "inputs": {name: run.checksums.get(name) for name in _INPUTS},
        "source": findings.source,
        "judged": result["photos"] if result else 0,
        "correct": result["correct"] if result else 0,
    }


def read(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Returns the entries of several runs.json files, oldest first."""
    entries = [entry for path in paths for entry in files.read_json(path, list[_Entry])]
    return sorted(entries, key=lambda entry: entry["time"])


def append(
    earlier: Sequence[Mapping[str, Any]], findings: Findings, path: str | Path
) -> list[dict[str, Any]]:
    """Adds a run to runs.json, unless the last entry is the same.

    Args:
        earlier: the entries in the file, oldest first.
        findings: the new run.
        path: the runs.json to write; it keeps the last 100 entries.

    Returns:
        The entries before this run, oldest first.
    """
    # Through JSON, to compare it with entries that were read from a file.
    new = json.loads(json.dumps(entry(findings)))
    entries = [dict(row) for row in earlier]
    last = entries[-1] if entries else None
    if last and {**last, "time": ""} == {**new, "time": ""}:
        older = entries[:-1]
    else:
        older = entries
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        entries = [*entries, {"time": now, **new}][-_MAX_ENTRIES:]
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return older


def comparison(last: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Says how the accuracy compares with the last run's, and what changed between the two.

    Returns an empty string if either run has no accuracy.
    """
    if not (last["judged"] and new["judged"]):
        return ""
    before, after = (run["correct"] / run["judged"] for run in (last, new))
    when = last["time"][:16].replace("T", " ")
    old, now = percent(last["correct"], last["judged"]), percent(new["correct"], new["judged"])
    moved = f"also reached {old}" if old == now else f"reached {old}, this one {now}"
    changes = changed(last, new)
    what = f"Changed since then: {join(changes, most=6)}." if changes else "Nothing changed."
    text = f"The last run ({when} UTC) {moved}. {what}"
    if last["corrections"] < new["corrections"]:
        others = "" if len(changes) == 1 else " and the other changes"
        moved = "raised" if after >= before else "lowered"
        text += (
            f" The corrections{others} {moved} the accuracy by {points(after - before)}. A "
            "corrected label affects both what the model learns and what counts as a mistake."
        )
    if last["source"] != new["source"]:
        text += (
            " The two figures are not comparable: one was measured in cross-validation, the other "
            "on the test split."
        )
    return text


def changed(last: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns noun phrases that say what differs between two runs."""
    changes = []
    if last["backbone"] != new["backbone"]:
        changes.append(f"the backbone (it was {last['backbone']})")
    if last["photos"] != new["photos"]:
        changes.append(f"{count(new['photos'], 'photo')} instead of {last['photos']:,}")
    if last["classes"].keys() != new["classes"].keys():
        before, after = len(last["classes"]), len(new["classes"])
        number = f"{count(after, 'class', 'classes')} instead of {before:,}"
        changes.append("the names of the classes" if before == after else number)
    if last["corrections"] != new["corrections"]:
        changes.append(
            f"{count(new['corrections'], 'correction')} instead of {last['corrections']:,}"
        )
    elif last["photos"] == new["photos"] and last["classes"] != new["classes"]:
        changes.append("the labels of photos")
    settings = sorted(
        key
        for key in last["settings"].keys() | new["settings"].keys()
        if last["settings"].get(key) != new["settings"].get(key)
        and key not in ("backbone", "corrections")
    )
    if settings:
        changes.append(f"the setting{'' if len(settings) == 1 else 's'} {join(settings)}")
    if not changes and last["inputs"] != new["inputs"]:
        changes.append("the photos, their labels or the backbone")
    return changes
