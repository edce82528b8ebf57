"""Classifier file, embeddings and a few raw test photos -> accuracy and confusion matrix."""

from edgetpu_retrain import evaluation, job, manifest
from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.head import Head

with job.run(snakemake.log[0]):
    embeddings = Embeddings.concatenate([Embeddings.load(p) for p in snakemake.input.embeddings])
    result = evaluation.evaluate(
        snakemake.input.model,
        Head.load(snakemake.input.head),
        manifest.read(snakemake.input.manifest),
        embeddings,
        device=snakemake.params.device,
        resize=snakemake.params.resize,
    )
    evaluation.plot_confusion_matrix(result, snakemake.output.confusion_matrix)
    evaluation.save(result, snakemake.output.evaluation)
