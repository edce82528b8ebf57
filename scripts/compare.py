"""Compare the results of several backbones and recipes on the same photos."""

import logging
from pathlib import Path

from edgetpu_retrain.workflow import job

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import program
from edgetpu_retrain.report import comparison

with job.run(snakemake):
    entries = snakemake.params.entries
    if len(entries) < 2:
        raise UserError(
            "config: compare contains only the configured backbone and recipe. Add another one."
        )
    folders = [Path(path).parent for path in snakemake.input.models]
    candidates = [
        comparison.load_candidate(folder, entry["backbone"], entry["edgetpu_ms"])
        for folder, entry in zip(folders, entries, strict=True)
    ]
    rows = comparison.compare(candidates)
    comparison.write_table(rows, snakemake.output.table)
    comparison.write_page(rows, snakemake.params.dataset, snakemake.output.page)
    try:
        with program.standard_output():
            print(comparison.as_text(rows))
    except (UserError, SystemExit):
        # The results stay, even if nobody can read them here.
        logging.warning("The comparison is in %s.", snakemake.output.page)
