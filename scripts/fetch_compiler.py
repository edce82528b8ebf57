"""Download and unpack edgetpu_compiler."""

from edgetpu_retrain import compiler, job

with job.run(snakemake):
    compiler.fetch(snakemake.params.sources, snakemake.output.folder)
