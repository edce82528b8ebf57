"""Copy the classifier for the Edge TPU to where users look for it."""

from edgetpu_retrain import deliver, job

with job.run(snakemake.log[0]):
    deliver.deliver({snakemake.input.model: snakemake.output.model})
