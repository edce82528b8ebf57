"""Classifier file, photos and cross-validation -> predictions and figures."""

from edgetpu_retrain import evaluation, job, manifest
from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.head import Head
from edgetpu_retrain.predictions import Predictions

with job.run(snakemake.log[0]):
    result = evaluation.evaluate(
        snakemake.input.model,
        Head.load(snakemake.input.head),
        list(manifest.read(snakemake.input.manifest)),
        Embeddings.load_all(snakemake.input.embeddings),
        Predictions.read(snakemake.input.out_of_fold),
        test_dataset=snakemake.params.test_dataset,
        device=snakemake.params.device,
        resize=snakemake.params.resize,
    )
    result.predictions.write(snakemake.output.predictions)
    evaluation.save(result, snakemake.output.evaluation)
