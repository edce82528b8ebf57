"""Classifier, for the CPU and for the Edge TPU -> the folder that goes to a device."""

import logging

from edgetpu_retrain import bundle, job, manifest

with job.run(snakemake.log[0]):
    compiled = snakemake.input.get("compiled")
    bundle.write_bundle(
        snakemake.input.model,
        compiled,
        snakemake.input.label_map,
        manifest.read(snakemake.input.manifest),
        snakemake.output.folder,
        snakemake.output.archive,
    )
    if compiled is None:
        logging.info("No model for the Edge TPU is in it: there is no compiler here for this one.")
    logging.info("Copy %s to the device and follow its README.md.", snakemake.output.archive)
