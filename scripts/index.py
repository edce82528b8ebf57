"""Folder of photos -> manifest: path, class, split and identity of each; shards to embed."""

import logging
from pathlib import Path

from edgetpu_retrain.workflow import job, plan

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import index, scan
from edgetpu_retrain.index.identity_cache import IdentityCache

with job.run(snakemake):
    output, params = snakemake.output, snakemake.params
    folder = str(snakemake.input.photos or params.folder)
    found = scan.scan(
        folder,
        IdentityCache(plan.identity_cache_path(folder, Path(".snakemake/identities"))),
        **params.split,
        # An archive often holds one folder with the classes in it.
        descend=bool(snakemake.input.photos),
        corrections_path=params.corrections,
    )
    digests = found.digests(len(output.shards))
    if params.folder and digests.everything != params.listed:
        raise UserError(f"Photos in {folder} changed while the run started. Run again.")
    index.write(
        found,
        index.Outputs(
            output.manifest, output.not_photos, output.corrections, Path(output.shards[0]).parent
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
