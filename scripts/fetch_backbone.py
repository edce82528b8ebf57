"""Download a file of a backbone."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.io import download

with job.run(snakemake):
    download.fetch(output=snakemake.output.file, **snakemake.params.source)
