"""Plot the confusion matrix of an evaluation."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.evaluation import confusion_matrix
from edgetpu_retrain.io import files

with job.run(snakemake):
    evaluation = files.read_json(snakemake.input.evaluation)
    confusion_matrix.plot(evaluation, snakemake.output.picture)
