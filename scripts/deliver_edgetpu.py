"""Copy the classifier for the Edge TPU to the top-level folder."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.deploy import deliver

with job.run(snakemake):
    model = snakemake.output.model
    deliver.deliver({snakemake.input.model: model})
    deliver.record([model], snakemake.params.run, snakemake.output.record)
