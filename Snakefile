import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.14")
# Of this Snakefile, also where it is a module of another workflow.
HERE = Path(str(workflow.current_basedir))
sys.path.insert(0, str(HERE))


include: "workflow/rules/config.smk"


# A folder that --directory names may have a configuration of its own.
configfile: CONFIG_FILE


include: "workflow/rules/common.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/extractor.smk"
include: "workflow/rules/embeddings.smk"
include: "workflow/rules/classifier.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/deploy.smk"
include: "workflow/rules/run.smk"


# Everything for the configured data set, backbone and recipe. What lies between photos and model
# is named as well, so that what was deleted is made again.
rule all:
    default_target: True
    input:
        delivered(),
        intermediate(),
