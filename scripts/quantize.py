"""Quantize a float extractor with calibration photos, and report the accuracy loss."""

from itertools import chain

from edgetpu_retrain.workflow import job

from edgetpu_retrain.backbone.quantize import calibration, quantized_extractor
from edgetpu_retrain.index import manifest

with job.run(snakemake):
    params = snakemake.params
    quantized_extractor.make(
        snakemake.input.extractor,
        list(chain(*map(manifest.read, (snakemake.input.manifest, snakemake.input.unlabelled)))),
        calibration.read(snakemake.input.photos),
        snakemake.output.extractor,
        snakemake.output.report,
        mean=params.mean,
        std=params.std,
        resize=params.resize,
        allow_cpu_operators=params.allow_cpu_operators,
        num_threads=snakemake.threads,
    )
