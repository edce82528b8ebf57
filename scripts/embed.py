"""Compute the embeddings of the photos in a shard."""

from pathlib import Path

from edgetpu_retrain.workflow import job

from edgetpu_retrain.embeddings.embed import embed
from edgetpu_retrain.embeddings.shards import EmbeddingCache
from edgetpu_retrain.index import manifest

with job.run(snakemake):
    output, params = Path(snakemake.output.embeddings), snakemake.params
    cache = EmbeddingCache(output.parent / ".known", snakemake.input.extractor, params.resize)
    embed(
        manifest.read_shard(snakemake.input.shard),
        snakemake.input.extractor,
        device=params.device,
        resize=params.resize,
        earlier=cache.load(output.stem),
        num_threads=snakemake.threads,
    ).save(output)
    cache.store(output)
