"""Embeddings of all shards -> head."""

from edgetpu_retrain import classifier, job
from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.head import write_label_map

with job.run(snakemake.log[0]):
    shards = [Embeddings.load(path) for path in snakemake.input.embeddings]
    head = classifier.train(
        Embeddings.concatenate(shards), **snakemake.params.recipe, seed=snakemake.params.seed
    )
    head.save(snakemake.output.head)
    write_label_map(head.classes, snakemake.output.label_map)
