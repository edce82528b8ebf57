"""Download one file of a backbone."""

from edgetpu_retrain import download, job

with job.run(snakemake):
    source = snakemake.params.source
    download.fetch(
        source["urls"],
        snakemake.output.file,
        sha256=source["sha256"],
        git_blob=source["git_blob"],
        member=source["member"],
    )
