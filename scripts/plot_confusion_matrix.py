"""Plot the confusion matrix of an evaluation."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.evaluation import confusion_matrix, saved

with job.run(snakemake):
    evaluation = saved.read(snakemake.input.evaluation)
    confusion_matrix.plot(evaluation, snakemake.output.picture)
