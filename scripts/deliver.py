"""Copy the results of the configured dataset, backbone and recipe to the top-level folder."""

from pathlib import Path

from edgetpu_retrain.workflow import job

from edgetpu_retrain.deploy import deliver

with job.run(snakemake):
    source, output, run = snakemake.input, snakemake.output, snakemake.params.run
    deliver.remove_others(Path(output.record).parent, run)
    copies = {source[name]: output[name] for name in ("model", "label_map", "report")}
    deliver.deliver(copies)
    deliver.record(copies.values(), run, output.record)
