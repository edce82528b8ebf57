"""What was reported before, so that a page can say what has changed since."""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgetpu_retrain.io import files
from edgetpu_retrain.report.findings import Findings
from edgetpu_retrain.report.words import count, listed, percent

_MOST_ENTRIES = 100
_INPUTS = ("manifest.tsv", "the extractor")


def entry(findings: Findings) -> dict[str, Any]:
    """Returns what is kept of a run: its outcome and what could have changed it."""
    run, result = findings.run, findings.result
    return {
        "backbone": run.backbone,
        "photos": sum(run.photos.values()),
        "classes": dict(run.photos),
        "corrections": len(run.corrections),
        "settings": dict(run.settings),
        "inputs": {name: run.checksums.get(name) for name in _INPUTS},
        "source": findings.source,
        "judged": result["photos"] if result else 0,
        "correct": result["correct"] if result else 0,
    }


def read(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Returns the entries of several files, the oldest first."""
    entries = [one for path in paths for one in files.read_json(path)]
    return sorted(entries, key=lambda one: one["time"])


def append(
    earlier: Sequence[Mapping[str, Any]], found: Findings, path: str | Path
) -> list[dict[str, Any]]:
    """Writes a backbone's entries with one more, unless the last says the same.

    Returns:
        The entries that are older than this one.
    """
    # As it comes back from the file.
    new = json.loads(json.dumps(entry(found)))
    entries = [dict(one) for one in earlier]
    last = entries[-1] if entries else None
    if last and {**last, "time": ""} == {**new, "time": ""}:
        older = entries[:-1]
    else:
        older = entries
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        entries = [*entries, {"time": now, **new}][-_MOST_ENTRIES:]
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return older


def comparison(last: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Says how a run compares to an earlier one and what was changed between them."""
    if not (last["judged"] and new["judged"]):
        return ""
    before, after = (one["correct"] / one["judged"] for one in (last, new))
    when = last["time"][:16].replace("T", " ")
    texts = percent(last["correct"], last["judged"]), percent(new["correct"], new["judged"])
    moved = "as now" if texts[0] == texts[1] else f"now {texts[1]}"
    changes = changed(last, new)
    what = f"Changed since: {listed(changes, most=6)}." if changes else "Nothing was changed since."
    said = f"The last run here ({when} UTC) had {texts[0]}, {moved}. {what}"
    if last["corrections"] < new["corrections"]:
        others = "" if len(changes) == 1 else " and the other changes"
        moved = "brought" if after >= before else "cost"
        said += (
            f" The corrections{others} {moved} {100 * abs(after - before):.1f} points; a "
            "corrected label counts both in what is learned and in what is called a mistake."
        )
    if last["source"] != new["source"]:
        said += " The two were not measured in the same way."
    return said


def changed(last: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lists what differs between two runs, in words."""
    found = []
    if last["backbone"] != new["backbone"]:
        found.append(f"the backbone ({last['backbone']})")
    if last["photos"] != new["photos"]:
        found.append(f"{count(new['photos'], 'photo')} instead of {last['photos']:,}")
    if last["classes"].keys() != new["classes"].keys():
        found.append(f"the classes ({len(new['classes'])} instead of {len(last['classes'])})")
    if last["corrections"] != new["corrections"]:
        found.append(
            f"{count(new['corrections'], 'correction')} instead of {last['corrections']:,}"
        )
    elif last["photos"] == new["photos"] and last["classes"] != new["classes"]:
        found.append("the classes of photos")
    settings = sorted(
        key
        for key in last["settings"].keys() | new["settings"].keys()
        if last["settings"].get(key) != new["settings"].get(key)
        and key not in ("backbone", "corrections")
    )
    if settings:
        found.append(f"the settings {listed(settings)}")
    if not found and last["inputs"] != new["inputs"]:
        found.append("the photos, their labels or the network")
    return found
