"""Manifest -> the identities of the photos that a float network is calibrated on."""

from edgetpu_retrain import calibration, job, manifest

with job.run(snakemake):
    photos = manifest.read(snakemake.input.manifest)
    chosen = calibration.choose_for_calibration(photos, snakemake.params.photos)
    calibration.write(chosen, snakemake.output.photos)
