"""Choose the photos that a float network is calibrated on."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.backbone.quantize import calibration
from edgetpu_retrain.index import manifest

with job.run(snakemake):
    photos = manifest.read(snakemake.input.manifest)
    identities = calibration.choose_for_calibration(photos, snakemake.params.photos)
    calibration.write(identities, snakemake.output.photos)
