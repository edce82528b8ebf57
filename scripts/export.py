"""Manifest -> labelled photos in one folder per class."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.index import manifest
from edgetpu_retrain.labelling.export import export

with job.run(snakemake):
    export(manifest.read(snakemake.input.manifest), snakemake.output.folder)
