"""Extractor and head -> classifier."""

from edgetpu_retrain import classifier, job
from edgetpu_retrain.head import Head

with job.run(snakemake.log[0]):
    classifier.serialize(
        snakemake.input.extractor,
        Head.load(snakemake.input.head),
        snakemake.output.model,
        twin=snakemake.input.get("twin"),
    )
