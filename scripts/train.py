"""Embeddings of all shards and manifest -> head, and predictions of its cross-validation."""

from edgetpu_retrain import copies, index, job, manifest, training
from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.head import write_label_map

with job.run(snakemake.log[0]):
    embeddings = Embeddings.load_all(snakemake.input.embeddings)
    photos = list(manifest.read(snakemake.input.manifest))
    listed_in = snakemake.input.skipped
    skipped = list(manifest.read_skipped(listed_in))
    undecodable = embeddings.why_undecodable()
    usable = [photo for photo in photos if photo.sha256 not in undecodable]
    total = len(usable) + sum(photo.reason != index.IN_NO_CLASS for photo in skipped)
    index.check_skipped(skipped, total, snakemake.params.max_skipped, listed_in)
    labels = sorted({photo.label for photo in photos})
    index.check_classes(labels, usable, len(photos) - len(usable), listed_in)
    trained = training.train(
        training.LabelledEmbeddings.join(embeddings, photos),
        **snakemake.params.training,
        seed=snakemake.params.seed,
        num_threads=snakemake.threads,
    )
    trained.predictions.write(snakemake.output.out_of_fold)
    copies.write_groups(embeddings.photos, trained.groups, snakemake.output.groups)
    trained.head.save(snakemake.output.head)
    write_label_map(trained.head.classes, snakemake.output.label_map)
