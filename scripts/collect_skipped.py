"""Manifest and embeddings -> the list of photos that are left out, each with its reason."""

import logging

from edgetpu_retrain import job, manifest
from edgetpu_retrain.embeddings import Embeddings

with job.run(snakemake.log[0]):
    reasons = {}
    for path in snakemake.input.embeddings:
        reasons |= Embeddings.load(path).why_undecodable()
    photos = manifest.read(snakemake.input.manifest)
    skipped = list(manifest.read_skipped(snakemake.input.not_photos))
    skipped += [
        manifest.Skipped(photo.path, reasons[photo.sha256])
        for photo in photos
        if photo.sha256 in reasons
    ]
    manifest.write_skipped(skipped, snakemake.output.skipped)
    manifest.remove_other_shards(snakemake.input.embeddings)
    if skipped:
        logging.info("%d photos skipped, listed in %s", len(skipped), snakemake.output.skipped)
