"""Photos of one shard and extractor -> vectors by photo identity."""

from pathlib import Path

from edgetpu_retrain import job, manifest
from edgetpu_retrain.embeddings import Embeddings, embed

with job.run(snakemake.log[0]):
    output = Path(snakemake.output.embeddings)
    # After a change of the number of shards the photos are in files of other names.
    names = [path.stem for path in output.parent.glob("*-of-*.npz")]
    earlier = [output.stem] if output.stem in names else manifest.overlapping(output.stem, names)
    embed(
        manifest.read_shard(snakemake.input.shard),
        snakemake.input.extractor,
        device=snakemake.params.device,
        resize=snakemake.params.resize,
        earlier=(Embeddings.load(output.with_name(f"{name}.npz")) for name in earlier),
        num_threads=snakemake.threads,
    ).save(output)
    Path(snakemake.output.complete).touch()
