"""Evaluate the classifier on held-out photos, and write its predictions and metrics."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.evaluation import evaluate
from edgetpu_retrain.head import Head
from edgetpu_retrain.index import manifest
from edgetpu_retrain.training.predictions import OutOfFold

with job.run(snakemake):
    result = evaluate.evaluate(
        snakemake.input.model,
        Head.load(snakemake.input.head),
        LabelledEmbeddings.load(
            snakemake.input.embeddings, manifest.read(snakemake.input.manifest)
        ),
        OutOfFold.load(snakemake.input.out_of_fold),
        snakemake.output.predictions,
        test_dataset=snakemake.params.test_dataset,
        strangers=snakemake.params.strangers,
        device=snakemake.params.device,
        resize=snakemake.params.resize,
    )
    evaluate.save(result, snakemake.output.evaluation)
