"""Extractor for the CPU -> extractor for the Edge TPU."""

from edgetpu_retrain import compiler, job

with job.run(snakemake.log[0]):
    compiler.compile_model(
        snakemake.input.extractor, snakemake.output.compiled, snakemake.output.report
    )
