"""Network of any kind -> embedding extractor for the CPU that takes raw bytes."""

from edgetpu_retrain import backbones, download, job

with job.run(snakemake):
    params = snakemake.params
    download.verify(snakemake.input.network, **params.checksum)
    kind = backbones.KINDS[params.kind]
    kind.make_extractor(snakemake.input.network, snakemake.output.extractor, **params.settings)
