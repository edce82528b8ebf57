"""List all skipped photos with reasons, and remove embeddings of a former number of shards."""

import logging
from pathlib import Path

from edgetpu_retrain.workflow import job

from edgetpu_retrain.embeddings.shards import EmbeddingCache, read_undecodable
from edgetpu_retrain.index import manifest

with job.run(snakemake):
    reasons: dict[str, str] = {}
    for path in snakemake.input.embeddings:
        reasons |= read_undecodable(path)
    skipped = list(manifest.read_skipped(snakemake.input.not_photos))
    skipped += [
        manifest.Skipped(photo.path, reasons[photo.sha256])
        for photo in manifest.read(snakemake.input.manifest)
        if photo.sha256 in reasons
    ]
    manifest.write_skipped(skipped, snakemake.output.skipped)
    shards = [Path(path) for path in snakemake.input.embeddings]
    manifest.remove_other_shards(shards)
    manifest.remove_other_shards(path.with_name(f".{path.stem}.embed") for path in shards)
    EmbeddingCache.remove_other_shards(shards[0].with_name(".known"), shards)
    if skipped:
        count = "1 photo" if len(skipped) == 1 else f"{len(skipped)} photos"
        logging.info("%s skipped, listed in %s", count, snakemake.output.skipped)
