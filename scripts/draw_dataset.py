"""Draw the sample's photos."""

from edgetpu_retrain import drawing, files, job

with job.run(snakemake.log[0]), files.replacing(snakemake.output.photos) as folder:
    drawing.draw_dataset(folder, **snakemake.params.drawn)
