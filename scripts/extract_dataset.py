"""Verify the checksum of the archive of photos, and unpack it."""

from pathlib import Path

from edgetpu_retrain.workflow import job

from edgetpu_retrain.io import archive, download

with job.run(snakemake):
    download.verify(snakemake.input.archive, snakemake.params.sha256)
    record = Path(snakemake.output.photos).with_name(".archive")
    archive.record_source(snakemake.input.archive, record, snakemake.params.url)
    archive.extract(snakemake.input.archive, snakemake.output.photos)
