"""Put the weights of a fine-tuned extractor into the compiled extractor that it was made from."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.io import files
from edgetpu_retrain.tflite.edgetpu_twin import rewrite_parameters
from edgetpu_retrain.tflite.model import Model

with job.run(snakemake):
    content = rewrite_parameters(
        snakemake.input.compiled,
        Model.load(snakemake.input.extractor),
        Model.load(snakemake.input.fine_tuned),
    )
    with files.replacing(snakemake.output.compiled) as temporary:
        temporary.write_bytes(content)
