"""Check an extractor that was compiled elsewhere, and make it take raw bytes."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.backbone import compiled
from edgetpu_retrain.io import download

with job.run(snakemake):
    download.verify(snakemake.input.compiled, **snakemake.params.checksum)
    compiled.take_compiled(
        snakemake.input.compiled,
        snakemake.input.extractor,
        snakemake.output.compiled,
        mean=snakemake.params.mean,
        std=snakemake.params.std,
        allow_cpu_operators=snakemake.params.allow_cpu_operators,
    )
