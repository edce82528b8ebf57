"""Fine-tune the last layers of an extractor on the photos of the dataset."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.fine_tuning.fine_tune import fine_tune
from edgetpu_retrain.index import manifest

with job.run(snakemake):
    fine_tune(
        snakemake.input.extractor,
        LabelledEmbeddings.load(
            snakemake.input.embeddings, manifest.read(snakemake.input.manifest)
        ),
        snakemake.output.extractor,
        snakemake.output.report,
        snakemake.output.tuned_on,
        snakemake.params.layers,
        mirror=snakemake.params.mirror,
        seed=snakemake.params.seed,
        resize=snakemake.params.resize,
        num_threads=snakemake.threads,
    )
