"""Write the folder with the CPU model for a custom classification in Frigate."""

import logging
from pathlib import Path

from edgetpu_retrain.workflow import job

from edgetpu_retrain.deploy import deliver, frigate

with job.run(snakemake):
    output = snakemake.output
    folder = Path(output.files[0]).parent
    frigate.write_folder(
        snakemake.input.model, snakemake.input.label_map, snakemake.params.name, folder
    )
    deliver.record(output.files, snakemake.params.run, output.record)
    logging.info(
        "Copy %s to model_cache/ in Frigate's config folder and follow the config.yml in it.",
        folder,
    )
