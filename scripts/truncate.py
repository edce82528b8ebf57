"""Frozen graph or whole classifier -> extractor for the CPU."""

from edgetpu_retrain import extractor, job

with job.run(snakemake.log[0]):
    network, output, params = (
        snakemake.input.network,
        snakemake.output.extractor,
        snakemake.params,
    )
    if params.kind == "frozen_graph":
        extractor.truncate_graph(
            network, output, params.input, params.tensor, params.mean, params.std, params.width
        )
    else:
        extractor.truncate_tflite(network, output, params.tensor, params.width)
