"""Unpack the archive of photos, after comparing it with its checksum."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.io import archive, download

with job.run(snakemake):
    download.verify(snakemake.input.archive, snakemake.params.sha256)
    archive.extract(snakemake.input.archive, snakemake.output.photos)
