"""Verify the checksum of the archive of photos, and unpack it."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.io import archive, download

with job.run(snakemake):
    download.verify(snakemake.input.archive, snakemake.params.sha256)
    archive.extract(snakemake.input.archive, snakemake.output.photos)
