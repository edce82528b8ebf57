"""Classifier file, photos and cross-validation -> predictions and figures."""

from edgetpu_retrain import evaluation, job, manifest, predictions
from edgetpu_retrain.head import Head
from edgetpu_retrain.labelled_embeddings import LabelledEmbeddings

with job.run(snakemake.log[0]):
    result = evaluation.evaluate(
        snakemake.input.model,
        Head.load(snakemake.input.head),
        LabelledEmbeddings.load(
            snakemake.input.embeddings, manifest.read(snakemake.input.manifest)
        ),
        predictions.read(snakemake.input.out_of_fold),
        snakemake.output.predictions,
        test_dataset=snakemake.params.test_dataset,
        device=snakemake.params.device,
        resize=snakemake.params.resize,
    )
    evaluation.save(result, snakemake.output.evaluation)
