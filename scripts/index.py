"""Folder of photos -> manifest: path, class, split and identity of each; shards to embed."""

import logging
from pathlib import Path

from edgetpu_retrain import index, job

with job.run(snakemake.log[0]):
    output = snakemake.output
    found = index.index(
        str(snakemake.input.photos or snakemake.params.folder),
        index.Outputs(
            output.manifest,
            output.not_photos,
            output.corrections,
            output.identities,
            Path(output.manifest).with_name("shards"),
        ),
        **snakemake.params.split,
        max_skipped=snakemake.params.max_skipped,
        # Of an archive's photos the number was not known before.
        shards=snakemake.config["shards"],
        # An archive often holds one folder with the classes in it.
        descend=bool(snakemake.input.photos),
        corrected_by=snakemake.params.corrections,
        listed_in=snakemake.params.listed_in,
    )
    # The table, of a thousand classes perhaps, goes to the log.
    logging.getLogger(index.__name__).debug(index.summary(found))
    logging.info(index.totals(found))
    Path(output.complete).touch()
