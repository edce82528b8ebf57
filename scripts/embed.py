"""Shard manifest and extractor -> embeddings of the shard's photos."""

from pathlib import Path

from edgetpu_retrain import dataset, job
from edgetpu_retrain.embeddings import Embeddings, embed

with job.run(snakemake.log[0]):
    output = Path(snakemake.output.embeddings)
    embed(
        dataset.read_shard(snakemake.input.manifest),
        snakemake.input.extractor,
        device=snakemake.params.device,
        known=Embeddings.load(output) if output.is_file() else None,
        num_threads=snakemake.threads,
    ).save(output)
