"""Download a file of a backbone."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.io import download

with job.run(snakemake):
    source = snakemake.params.source
    download.fetch(
        source["urls"],
        snakemake.output.file,
        sha256=source["sha256"],
        git_blob=source["git_blob"],
        member=source["member"],
    )
