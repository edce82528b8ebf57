"""Index the photos: write the manifest and the shards to embed."""

import logging
from pathlib import Path

from edgetpu_retrain.workflow import job, photo_digests

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import index, scan
from edgetpu_retrain.index.identity_cache import IdentityCache
from edgetpu_retrain.index.index import Digests

with job.run(snakemake):
    output, params = snakemake.output, snakemake.params
    unpacked = list(snakemake.input.photos)
    cached_for = next(filter(None, [*unpacked, params.folder, *params.unlabelled]))
    folder = unpacked.pop(0) if params.is_packed else params.folder
    photo_index = scan.scan(
        folder,
        IdentityCache(photo_digests.identity_cache_path(cached_for, Path(".snakemake/identities"))),
        **params.split,
        # In an archive, the class folders are often inside a single folder.
        descend=params.is_packed,
        corrections_path=params.corrections,
        unlabelled=[*params.unlabelled, *unpacked],
    )
    digests = Digests(**params.digests)
    # Of photos in archives, it was not known what they are.
    is_listed = not snakemake.input.photos
    if is_listed and photo_index.digests(1).everything != digests.everything:
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
