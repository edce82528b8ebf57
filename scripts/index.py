"""Folder of photos -> manifest: path, class, split and identity of each; shards to embed."""

import logging
from pathlib import Path

from edgetpu_retrain.workflow import job, plan

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import index, scan
from edgetpu_retrain.index.identity_cache import IdentityCache

with job.run(snakemake):
    output, params = snakemake.output, snakemake.params
    folder = snakemake.input.photos or params.folder
    found = scan.scan(
        str(folder) if folder else None,
        IdentityCache(
            plan.cache_of(str(folder or params.unlabelled[0]), Path(".snakemake/identities"))
        ),
        **params.split,
        # An archive often holds one folder with the classes in it.
        descend=bool(snakemake.input.photos),
        corrected_by=params.corrections,
        unlabelled=params.unlabelled,
    )
    digests = found.digests(len(output.shards))
    if not snakemake.input.photos and digests.everything != params.listed:
        raise UserError("Photos or labels changed while the run started. Run again.")
    index.write(
        found,
        index.Outputs(
            output.manifest,
            output.unlabelled,
            output.not_photos,
            output.corrections,
            Path(output.shards[0]).parent,
        ),
        len(output.shards),
        params.max_skipped,
        # Kept also where the job fails, as its log is.
        listed_in=Path(snakemake.log[0]).with_name("not_photos.tsv"),
    )
    digests.save(output.digests)
    # The table, of a thousand classes perhaps, goes to the log.
    logging.getLogger(index.__name__).debug(index.summary(found))
    logging.info(index.totals(found))
