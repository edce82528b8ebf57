"""Convert a network of any supported kind to an embedding extractor that takes raw bytes."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.backbone import kinds
from edgetpu_retrain.io import download

with job.run(snakemake):
    params = snakemake.params
    download.verify(snakemake.input.network, **params.checksum)
    kind = kinds.KINDS[params.kind]
    kind.make_extractor(snakemake.input.network, snakemake.output.extractor, **params.settings)
