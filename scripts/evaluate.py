"""Classifier file and raw test photos -> accuracy and confusion matrix."""

import logging

from edgetpu_retrain import dataset, evaluation, job
from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.head import Head

with job.run(snakemake.log[0]):
    shards = [Embeddings.load(path) for path in snakemake.input.embeddings]
    result = evaluation.evaluate(
        snakemake.input.model,
        Head.load(snakemake.input.head),
        [photo for path in snakemake.input.manifests for photo in dataset.read_shard(path)],
        Embeddings.concatenate(shards),
        device=snakemake.params.device,
        num_threads=snakemake.threads,
    )
    evaluation.plot_confusion_matrix(result, snakemake.output.confusion_matrix)
    evaluation.save(result, snakemake.output.evaluation)
    logging.info(evaluation.summary(result.as_dict()))
