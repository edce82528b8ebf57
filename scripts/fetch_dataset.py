"""Download the archive of photos that the configuration names."""

from edgetpu_retrain import download, job

with job.run(snakemake.log[0]):
    download.fetch(snakemake.params.urls, snakemake.output.archive, sha256=snakemake.params.sha256)
