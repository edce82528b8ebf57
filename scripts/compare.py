"""Backbones and recipes of the configuration -> which does best on these photos.

Each is a run of this workflow in the same folder, one after the other, so whatever is there already
is not made again.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from edgetpu_retrain import UserError, job
from edgetpu_retrain.report import comparison


def run(entry: dict, config: dict, cores: int) -> None:
    """Makes the results of one backbone and recipe."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(json.dumps(config | {"training": entry["training"]}), encoding="utf-8")
        # That of a cluster names itself, so that what takes long is submitted here too.
        profile = os.environ.get("EDGETPU_RETRAIN_PROFILE")
        where = ["--workflow-profile", profile] if profile else ["--cores", str(cores)]
        command = [sys.executable, "-m", "snakemake", *where, "--nolock"]
        command += ["--quiet", "all", "--configfile", str(path)]
        command += ["--config", f"backbone={json.dumps(entry['backbone'])}"]
        wanted = [f"{entry['results']}/{name}" for name in ("evaluation.json", "report.html")]
        done = subprocess.run([*command, "--", *wanted], text=True, capture_output=True)
    if done.returncode:
        raise UserError(
            f"{entry['name']} could not be tried, so nothing was compared. Make it alone to see "
            f"more, or take it out of compare in the config:\n{done.stderr[-2000:]}"
        )


with job.run(snakemake.log[0]):
    if len(snakemake.params.entries) < 2:
        raise UserError("config: compare lists nothing but the configured backbone and recipe.")
    candidates = []
    # The configured ones come last, so that their results stay.
    for entry in reversed(snakemake.params.entries):
        run(entry, snakemake.params.config, snakemake.threads)
        # A folder holds one recipe at a time, so it is read before the next run.
        candidates.append(comparison.judge(entry["results"], entry["name"], entry["edgetpu_ms"]))
    rows = comparison.compare(candidates)
    comparison.write_table(rows, snakemake.output.table)
    comparison.write_page(rows, snakemake.params.dataset, snakemake.output.page)
    print(comparison.as_text(rows))
