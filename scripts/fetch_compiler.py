"""Download and unpack edgetpu_compiler."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.backbone import compiler

with job.run(snakemake):
    compiler.fetch(snakemake.params.sources, snakemake.output.folder)
