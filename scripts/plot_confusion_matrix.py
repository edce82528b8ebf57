"""Figures of an evaluation -> its confusion matrix as a picture."""

import json
from pathlib import Path

from edgetpu_retrain import confusion_matrix, job

with job.run(snakemake):
    evaluation = json.loads(Path(snakemake.input.evaluation).read_text("utf-8"))
    confusion_matrix.plot(evaluation, snakemake.output.picture)
