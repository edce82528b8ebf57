from pathlib import Path

from snakemake.utils import min_version

min_version("9.10")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/extractor.smk"
include: "workflow/rules/embeddings.smk"
include: "workflow/rules/classifier.smk"


# What is made where no target is named.
rule all:
    default_target: True
    input:
        "retrained_model_edgetpu.tflite",
