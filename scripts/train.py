"""Train the head on the embeddings, and write it with its cross-validated predictions."""

from collections import Counter

from edgetpu_retrain.workflow import job

from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.fine_tuning import nested
from edgetpu_retrain.fine_tuning.fine_tune import read_tuned_on
from edgetpu_retrain.head import write_label_map
from edgetpu_retrain.index import checks, corrections, manifest
from edgetpu_retrain.training import near_copies, recipes


def check_photos(labelled: LabelledEmbeddings) -> None:
    """Raises a UserError if too few photos could be decoded."""
    listed_in = snakemake.input.skipped
    skipped = list(manifest.read_skipped(listed_in))
    num_usable = len(labelled)
    total = num_usable + sum(photo.reason != checks.IN_NO_CLASS for photo in skipped)
    checks.check_skipped(skipped, total, snakemake.params.max_skipped, listed_in)
    listed = Counter(photo.label for photo in manifest.read(snakemake.input.manifest))
    usable = (photo for _, photo in labelled.in_manifest_order())
    checks.check_classes(sorted(listed), usable, listed.total() - num_usable, listed_in)


def load_unlabelled() -> LabelledEmbeddings | None:
    """Returns the photos that still have no label; None without any, or if they are not used."""
    if not snakemake.params.training.get("pseudo_labels"):
        return None
    waiting = corrections.undecided(
        manifest.read(snakemake.input.unlabelled),
        corrections.read_applied(snakemake.input.corrections),
    )
    return LabelledEmbeddings.load(snakemake.input.embeddings, waiting) if waiting else None


with job.run(snakemake):
    labelled = LabelledEmbeddings.load(
        snakemake.input.embeddings, manifest.read(snakemake.input.manifest)
    )
    check_photos(labelled)
    settings = snakemake.params.training | {
        "seed": snakemake.params.seed,
        "num_threads": snakemake.threads,
        "none": snakemake.params.none,
    }
    tuned_on = snakemake.input.tuned_on
    trained = recipes.train(
        labelled,
        seen=read_tuned_on(tuned_on) if tuned_on else (),
        unlabelled=load_unlabelled(),
        **settings,
    )
    judged = trained.out_of_fold()
    if snakemake.input.nested:
        photos = list(manifest.read(snakemake.input.manifest))
        # These networks have not embedded the photos without a label.
        settings.pop("pseudo_labels", None)
        judged = nested.complete(
            judged, trained.head.classes, snakemake.input.nested, photos, settings
        )
    judged.save(snakemake.output.out_of_fold)
    near_copies.write_groups(labelled.identities, trained.groups, snakemake.output.groups)
    trained.head.save(snakemake.output.head)
    write_label_map(trained.head.classes, snakemake.output.label_map)
