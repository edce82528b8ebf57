"""Copy the results of the configured dataset and backbone to where users look for them."""

from edgetpu_retrain import deliver, job

with job.run(snakemake.log[0]):
    deliver.deliver({snakemake.input[name]: path for name, path in snakemake.output.items()})
    # Where these are wanted, another job makes them anew.
    deliver.remove_others(
        snakemake.params.others,
        newer_than=snakemake.input.head,
        with_them=snakemake.params.with_them,
    )
