"""Append the trained head to the extractor, and write the classifier."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.head import Head
from edgetpu_retrain.tflite import metadata
from edgetpu_retrain.tflite.append_head import append_head
from edgetpu_retrain.tflite.model import Model

with job.run(snakemake):
    extractor, head = Model.load(snakemake.input.extractor), Head.load(snakemake.input.head)
    classifier = append_head(extractor, head)
    metadata.save_with_class_names(
        classifier, head.classes, snakemake.output.model, snakemake.params.resize
    )
