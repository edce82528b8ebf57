"""Figures of an evaluation -> its confusion matrix as a picture."""

from edgetpu_retrain import confusion_matrix, files, job

with job.run(snakemake):
    evaluation = files.read_json(snakemake.input.evaluation)
    confusion_matrix.plot(evaluation, snakemake.output.picture)
