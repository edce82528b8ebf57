"""Write the bundle: the folder to copy to a device, with the models and a program to run them."""

import logging
from pathlib import Path

from edgetpu_retrain.workflow import job

from edgetpu_retrain.deploy import deliver
from edgetpu_retrain.deploy.bundle.make import write_bundle
from edgetpu_retrain.deploy.stored_embeddings import ClassMeans, Settings, StoredEmbeddings
from edgetpu_retrain.head import Head
from edgetpu_retrain.index import manifest
from edgetpu_retrain.training.predictions import OutOfFold


def memory() -> StoredEmbeddings | ClassMeans:
    """Returns what learn.py needs to train the model again."""
    source, params = snakemake.input, snakemake.params
    head = Head.load(source.head)
    # The photos without a label are not stored.
    training = {key: value for key, value in params.training.items() if key != "pseudo_labels"}
    taught = head.training.get("pseudo_labels", {"helps": False})
    stored = StoredEmbeddings.of_run(
        source.embeddings,
        manifest.read(source.manifest),
        Settings(
            training,
            params.seed,
            **params.split,
            none=params.none,
            pseudo_labels=taught["helps"],
        ),
        OutOfFold.load(source.out_of_fold),
        head.classes,
    )
    if params.with_embeddings:
        return stored
    # Without the class `none`, if it has no photos.
    return ClassMeans.of(stored, head.classes[: len(head.biases)], head.normalized)


with job.run(snakemake):
    output = snakemake.output
    model, *compiled = snakemake.input.models
    write_bundle(
        model,
        compiled[0] if compiled else None,
        snakemake.input.label_map,
        manifest.read(snakemake.input.manifest),
        Path(output.files[0]).parent,
        output.archive,
        memory(),
    )
    deliver.record([*output.files, output.archive], snakemake.params.run, output.record)
    if not compiled:
        logging.info("The bundle has no model for the Edge TPU: no compiler is available here.")
    logging.info("Copy %s to the device and follow the README.md in it.", output.archive)
