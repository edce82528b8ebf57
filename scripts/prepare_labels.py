"""Embeddings and lists of photos -> what the labelling page needs (scripts/label.py)."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.labelling.sources import Sources

with job.run(snakemake):
    Sources(
        manifest=str(snakemake.input.manifest),
        unlabelled=str(snakemake.input.unlabelled),
        applied=str(snakemake.input.applied),
        embeddings=list(snakemake.input.embeddings),
        groups=str(snakemake.output.groups),
        **snakemake.params.settings,
    ).prepare(snakemake.output.sources, snakemake.threads)
