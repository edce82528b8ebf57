"""Frozen graph -> extractor for the CPU."""

from edgetpu_retrain import frozen_graph, job

with job.run(snakemake.log[0]):
    frozen_graph.truncate(
        snakemake.input.frozen_graph,
        snakemake.output.extractor,
        input_array=snakemake.params.input_array,
        output_array=snakemake.params.output_array,
        mean=snakemake.params.mean,
        std=snakemake.params.std,
    )
