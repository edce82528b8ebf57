import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.14")
# The folder of this Snakefile, even when another workflow includes it as a module.
HERE = Path(str(workflow.current_basedir))
sys.path.insert(0, str(HERE))


include: "workflow/rules/config.smk"


# The working directory (--directory) can have a config.yaml of its own.
configfile: CONFIG_FILE


include: "workflow/rules/common.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/extractor.smk"
include: "workflow/rules/embeddings.smk"
include: "workflow/rules/classifier.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/label.smk"
include: "workflow/rules/deploy.smk"
include: "workflow/rules/run.smk"


# Everything for the configured dataset, backbone and recipe. Intermediate files are listed as well,
# so that deleted ones are made again.
rule all:
    default_target: True
    input:
        delivered(),
        intermediate(),
