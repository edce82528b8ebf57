"""Fine-tune an extractor without each fold of photos in turn, and embed the photos with each."""

from edgetpu_retrain.workflow import job

from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.fine_tuning.fine_tune import read_tuned_on
from edgetpu_retrain.fine_tuning.nested import fine_tune_folds
from edgetpu_retrain.index import manifest
from edgetpu_retrain.report import fine_tuning

with job.run(snakemake):
    fine_tune_folds(
        snakemake.input.extractor,
        LabelledEmbeddings.load(
            snakemake.input.embeddings, manifest.read(snakemake.input.manifest)
        ),
        snakemake.output.nested,
        fine_tuning.read(snakemake.input.report)["layers"],
        read_tuned_on(snakemake.input.tuned_on),
        seed=snakemake.params.seed,
        resize=snakemake.params.resize,
        num_threads=snakemake.threads,
    )
