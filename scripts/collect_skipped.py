"""Manifest and embeddings -> the list of photos that are left out, each with its reason."""

import logging

from edgetpu_retrain import job, manifest
from edgetpu_retrain.embeddings import read_undecodable

with job.run(snakemake):
    reasons = {}
    for path in snakemake.input.embeddings:
        reasons |= read_undecodable(path)
    skipped = list(manifest.read_skipped(snakemake.input.not_photos))
    skipped += [
        manifest.Skipped(photo.path, reasons[photo.sha256])
        for photo in manifest.read(snakemake.input.manifest)
        if photo.sha256 in reasons
    ]
    manifest.write_skipped(skipped, snakemake.output.skipped)
    manifest.remove_other_shards(snakemake.input.embeddings)
    if skipped:
        logging.info("%d photos skipped, listed in %s", len(skipped), snakemake.output.skipped)
