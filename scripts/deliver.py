"""Copy the results of the configured dataset and backbone to where users look for them."""

import shutil

from edgetpu_retrain import files, job

with job.run(snakemake.log[0]):
    for name, path in snakemake.output.items():
        with files.replacing(path) as temporary:
            shutil.copyfile(snakemake.input[name], temporary)
