"""Choose the photos that a float network is calibrated on."""

from itertools import chain

from edgetpu_retrain.workflow import job

from edgetpu_retrain.backbone.quantize import calibration
from edgetpu_retrain.index import manifest

with job.run(snakemake):
    # Unlabelled photos too, because calibration may run before any photo has a label.
    photos = chain(*map(manifest.read, (snakemake.input.manifest, snakemake.input.unlabelled)))
    identities = calibration.choose_for_calibration(photos, snakemake.params.photos)
    calibration.write(identities, snakemake.output.photos)
