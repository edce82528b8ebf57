"""Classifier file, photos and cross-validation -> predictions and figures."""

from edgetpu_retrain import evaluation, job, predictions
from edgetpu_retrain.head import Head
from edgetpu_retrain.stored_embeddings import StoredEmbeddings

with job.run(snakemake):
    result = evaluation.evaluate(
        snakemake.input.model,
        Head.load(snakemake.input.head),
        snakemake.input.manifest,
        StoredEmbeddings.open(snakemake.input.embeddings),
        predictions.read(snakemake.input.out_of_fold),
        snakemake.output.predictions,
        test_dataset=snakemake.params.test_dataset,
        device=snakemake.params.device,
        resize=snakemake.params.resize,
    )
    evaluation.save(result, snakemake.output.evaluation)
