from pathlib import Path

from snakemake.utils import min_version

min_version("9.10")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/extractor.smk"
include: "workflow/rules/embeddings.smk"
include: "workflow/rules/classifier.smk"


# Without a target, Snakemake makes the first rule's input.
rule all:
    default_target: True
    input:
        "retrained_model_edgetpu.tflite",
