"""Classifier for the CPU -> the folder that Frigate's custom classification reads."""

import logging

from edgetpu_retrain import frigate, job

with job.run(snakemake.log[0]):
    frigate.write_folder(
        snakemake.input.model,
        snakemake.input.label_map,
        snakemake.params.name,
        snakemake.output.folder,
    )
    logging.info(
        "Copy %s to model_cache/ in Frigate's config folder; config.yml in it says the rest.",
        snakemake.output.folder,
    )
