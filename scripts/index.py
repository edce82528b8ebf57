"""Index the photos: write the manifest and the shards to embed."""

import logging
from pathlib import Path

from edgetpu_retrain.workflow import job, plan

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import index, scan
from edgetpu_retrain.index.identity_cache import IdentityCache

with job.run(snakemake):
    output, params = snakemake.output, snakemake.params
    folder = snakemake.input.photos or params.folder
    cached_for = str(folder or params.unlabelled[0])
    photo_index = scan.scan(
        str(folder) if folder else None,
        IdentityCache(plan.identity_cache_path(cached_for, Path(".snakemake/identities"))),
        **params.split,
        # In an archive, the class folders are often inside a single folder.
        descend=bool(snakemake.input.photos),
        corrections_path=params.corrections,
        unlabelled=params.unlabelled,
    )
    digests = photo_index.digests(len(output.shards))
    if not snakemake.input.photos and digests.everything != params.listed:
        raise UserError("Photos or labels changed while the run was starting. Run again.")
    index.write(
        photo_index,
        index.Outputs(
            output.manifest,
            output.unlabelled,
            output.not_photos,
            output.corrections,
            Path(output.shards[0]).parent,
        ),
        len(output.shards),
        params.max_skipped,
        # In the log folder, because Snakemake deletes the outputs of a failed job.
        listed_in=Path(snakemake.log[0]).with_name("not_photos.tsv"),
    )
    digests.save(output.digests)
    # The table may have a thousand lines, so it goes to the log file only.
    logging.getLogger(index.__name__).debug(index.summary(photo_index))
    logging.info(index.totals(photo_index))
