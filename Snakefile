import copy
import functools
import json
import os
import re
import sys
from pathlib import Path

import yaml
from snakemake.exceptions import IncompleteCheckpointException, WorkflowError
from snakemake.utils import min_version, validate

from edgetpu_retrain import (
    UserError,
    backbones,
    compiler,
    configuration,
    devices,
    files,
    job,
    preprocessing,
    training,
    yaml_syntax,
)
from edgetpu_retrain.index import listing
from edgetpu_retrain.manifest import choose_shards, count_shards, shard_names

min_version("9.10")
COMPILER_FOLDER = "resources/edgetpu_compiler"
try:
    # With --directory another folder's is meant, which need not have one.
    if os.path.exists("config.yaml"):
        yaml_syntax.check("config.yaml")
except UserError as error:
    sys.exit(f"Error: {error}")


configfile: "config.yaml"


include: "workflow/rules/one_run.smk"
include: "workflow/rules/configuration.smk"


try:
    check_config()
    DATASET = find_dataset()
    BACKBONE = find_backbone()
    COMPARED = compared(DATASET)
    CORRECTIONS = configuration.find_corrections(config.get("corrections"))
    DEVICE, COMPILER = decide(BACKBONE)
    # So that an added, removed or changed photo is noticed. Jobs on other machines need not look.
    LISTING, NUM_FILES, TEST_LISTING = "", 0, ""
    if DATASET.folder and workflow.is_main_process:
        LISTING, NUM_FILES = listing(DATASET.folder)
    if "test_dataset" in config and workflow.is_main_process:
        TEST_LISTING, _ = listing(config["test_dataset"])
except UserError as error:
    sys.exit(str(error))
except OSError as error:
    sys.exit(f"Error: {job.sentence(error)}")
TWIN = "" if DEVICE == "cpu" else "_edgetpu"


include: "workflow/rules/common.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/extractor.smk"
include: "workflow/rules/embeddings.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/deleted.smk"
include: "workflow/rules/classifier.smk"
include: "workflow/rules/deploy.smk"
include: "workflow/rules/ending.smk"


# On a cluster, what takes moments runs where the command was given.
localrules:
    all,
    fetch_dataset,
    extract_dataset,
    index,
    fetch_backbone,
    make_extractor,
    fetch_compiler,
    collect_skipped,
    serialize,
    evaluate,
    plot_confusion_matrix,
    deliver,
    deliver_edgetpu,
    bundle,
    frigate,
    report,
    compare,


# What is made where no target is named.
rule all:
    default_target: True
    input:
        "retrained_model_edgetpu.tflite",
