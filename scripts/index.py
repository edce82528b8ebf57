"""Folder of photos -> manifest: path, class, split and identity of each; shards to embed."""

import logging
from pathlib import Path

from edgetpu_retrain import corrections, index, job, manifest

with job.run(snakemake.log[0]):
    output = snakemake.output
    identities = Path(output.identities)
    found = index.index(
        str(snakemake.input.photos or snakemake.params.folder),
        **snakemake.params.split,
        max_skipped=snakemake.params.max_skipped,
        earlier=manifest.read_identities(identities) if identities.is_file() else None,
        # An archive often holds one folder with the classes in it.
        descend=bool(snakemake.input.photos),
        corrected_by=snakemake.params.corrections,
        listed_in=snakemake.params.listed_in,
    )
    folder = Path(output.manifest).with_name("shards")
    # Those of an archive could not be counted before.
    count = snakemake.config["shards"]
    if count == "auto":
        count = manifest.choose_shards(len(found.photos))
    shards = [folder / f"{name}.tsv" for name in manifest.shard_names(count)]
    manifest.write(found.photos, output.manifest)
    # A photo that is left out stays embedded, so that it can come back at once.
    manifest.write_shards([*found.photos, *found.left_out], shards)
    manifest.write_skipped(found.skipped, output.not_photos)
    corrections.write_applied(found.corrected, output.corrections)
    manifest.write_identities(found.identities, identities)
    manifest.remove_other_shards(shards)
    # The table, of a thousand classes perhaps, goes to the log.
    logging.getLogger(index.__name__).debug(index.summary(found))
    logging.info(index.totals(found))
