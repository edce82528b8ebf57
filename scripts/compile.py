"""Compile an extractor for the Edge TPU."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.backbone import compiler

with job.run(snakemake):
    compiler.compile_model(
        snakemake.input.extractor,
        snakemake.output.compiled,
        snakemake.output.printed,
        program=snakemake.params.program,
        timeout=snakemake.params.timeout,
        min_runtime_version=snakemake.params.min_runtime_version,
        allow_cpu_operators=snakemake.params.allow_cpu_operators,
    ).save(snakemake.output.report)
