"""Embeddings of all shards and manifest -> head."""

from edgetpu_retrain import index, job, manifest, training
from edgetpu_retrain.embeddings import Embeddings
from edgetpu_retrain.head import write_label_map

with job.run(snakemake.log[0]):
    embeddings = Embeddings.concatenate([Embeddings.load(p) for p in snakemake.input.embeddings])
    photos = manifest.read(snakemake.input.manifest)
    skipped = manifest.read_skipped(snakemake.input.skipped)
    undecodable = embeddings.why_undecodable()
    usable = [photo for photo in photos if photo.sha256 not in undecodable]
    index.check_skipped(skipped, len(usable) + len(skipped), snakemake.params.max_skipped)
    index.check_classes(sorted({photo.label for photo in photos}), usable, len(skipped))
    head = training.train(
        training.LabelledEmbeddings.join(embeddings, photos),
        **snakemake.params.recipe,
        seed=snakemake.params.seed,
    )
    head.save(snakemake.output.head)
    write_label_map(head.classes, snakemake.output.label_map)
