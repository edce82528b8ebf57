"""Copy the results of the configured dataset and backbone to where users look for them."""

from edgetpu_retrain import deliver, job

with job.run(snakemake.log[0]):
    deliver.deliver({snakemake.input[name]: path for name, path in snakemake.output.items()})
    # The twin is delivered by another job, which goes on from here where it is wanted.
    deliver.remove_others(snakemake.params.others, newer_than=snakemake.input.head)
