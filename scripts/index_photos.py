"""Photos -> shard manifests, and a list of the photos that cannot be used."""

import logging

from edgetpu_retrain import dataset, job

with job.run(snakemake.log[0]):
    shards, skipped = sorted(snakemake.output.shards), snakemake.output.skipped
    found = dataset.index(
        str(snakemake.input.photos or snakemake.params.folder),
        **snakemake.params.split,
        max_skipped=snakemake.params.max_skipped,
        known=dataset.read_known(shards),
        threads=snakemake.threads,
        # An archive often holds one folder with the classes in it.
        descend=bool(snakemake.input.photos),
    )
    dataset.write_shards(found, shards)
    dataset.write_skipped(found.skipped, skipped)
    logging.info(dataset.summary(found))
    if found.skipped:
        logging.info("The reasons are in %s", skipped)
