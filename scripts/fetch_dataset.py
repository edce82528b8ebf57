"""Download the configured archive of photos."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.io import archive, download

with job.run(snakemake):
    download.fetch(
        snakemake.params.urls,
        snakemake.output.archive,
        sha256=snakemake.params.sha256,
        # A file with the right checksum is complete.
        check=None if snakemake.params.sha256 else archive.check_complete,
    )
