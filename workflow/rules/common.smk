# Paths, and the functions that choose a rule's input.
COMPILED_NAME = "compiled.tflite"
DATASET_RESOURCES = f"resources/datasets/{DATASET.name}"
BACKBONE_RESOURCES = f"resources/backbones/{BACKBONE.name}"
DATASET_RESULTS = f"results/{DATASET.name}"
RESULTS = f"{DATASET_RESULTS}/{BACKBONE.name}"
LOGS = f"logs/{DATASET.name}"
BACKBONE_RESULTS = f"results/backbones/{BACKBONE.name}"
# An extractor belongs to the photos that it was calibrated on.
EXTRACTORS = RESULTS if BACKBONE.CALIBRATED else BACKBONE_RESULTS
EXTRACTOR_LOGS = (
    f"{LOGS}/{BACKBONE.name}"
    if BACKBONE.CALIBRATED
    else f"logs/backbones/{BACKBONE.name}"
)
MADE_EXTRACTOR = (
    f"{BACKBONE_RESULTS}/{'float_' if BACKBONE.CALIBRATED else ''}extractor.tflite"
)
# What the model is called in Frigate; photos from there lie in clips/NAME/dataset.
FRIGATE = config.get("frigate", DATASET.name)


wildcard_constraints:
    part=f"{re.escape(BACKBONE.FILE_NAME)}|{re.escape(COMPILED_NAME)}",
    shard="[0-9]+-of-[0-9]+",
    twin="|_edgetpu",


include: "damaged.smk"


def photos_made():
    """The folder of photos that a rule makes, or nothing where the user's own is read in place."""
    return [] if DATASET.folder else f"{DATASET_RESOURCES}/photos"


def archive():
    return DATASET.archive or f"{DATASET_RESOURCES}/archive"


def backbone_source(part):
    return BACKBONE.compiled if part == COMPILED_NAME else BACKBONE.source


def backbone_file(part):
    """A file of the backbone where it is on disk, else where it is downloaded to."""
    return backbone_source(part).path or f"{BACKBONE_RESOURCES}/{part}"


def shards_written():
    return count_shards(Path(DATASET_RESULTS, "shards").glob("*-of-*.tsv"))


def count_photos():
    """How many photos there are; None before an archive of them was extracted and indexed."""
    if DATASET.folder:
        return NUM_FILES
    if not os.path.exists(f"{DATASET_RESULTS}/manifest.tsv"):
        return None
    with open(f"{DATASET_RESULTS}/manifest.tsv", "rb") as file:
        return sum(1 for line in file) - 1


def decide_shards():
    """Puts the number of shards in place of auto, if the photos can be counted already."""
    if config["shards"] == "auto" and count_photos() is not None:
        config["shards"] = choose_shards(count_photos(), shards_written())
        if workflow.is_main_process:
            # Jobs on other machines are told.
            workflow.config_settings.config_args += [f"shards={config['shards']}"]


decide_shards()


@functools.cache
def ask_for_index(created):
    """Returns Snakemake's exception if the index is not made yet, for so many created files."""
    try:
        checkpoints.index.get()
    except IncompleteCheckpointException as error:
        return error
    return None


def index_once_made():
    """Does what checkpoints.index.get() does, which goes through all shards, once and not per shard."""
    error = ask_for_index(len(checkpoints.created_output or ()))
    if error is not None:
        raise error.with_traceback(None)


def once_counted(paths):
    """What `paths` gives for the number of shards, where that is not known once they are indexed."""
    if config["shards"] != "auto":
        return paths(config["shards"])

    def after_index(wildcards):
        index_once_made()
        return paths(shards_written())

    return after_index


def shards(count):
    return expand(f"{DATASET_RESULTS}/shards/{{shard}}.tsv", shard=shard_names(count))


def digests(count):
    return expand(
        f"{DATASET_RESULTS}/shards/{{shard}}.digest", shard=shard_names(count)
    )


def index_outputs():
    """What the index writes, what is missing first.

    Snakemake makes a checkpoint again for its first output alone, so that must be a missing one.
    """
    outputs = {
        "manifest": [f"{DATASET_RESULTS}/manifest.tsv"],
        "not_photos": [f"{DATASET_RESULTS}/not_photos.tsv"],
        "corrections": [f"{DATASET_RESULTS}/applied_corrections.tsv"],
        "identities": [f"{DATASET_RESULTS}/identities.tsv"],
        "complete": [f"{DATASET_RESULTS}/.complete"],
    }
    # Of an archive's not known before it is extracted, only those that are lost later.
    if config["shards"] != "auto":
        paths = shards(config["shards"]) + digests(config["shards"])
        if not DATASET.folder:
            paths = [path for path in paths if not os.path.exists(path)]
        outputs |= {"shards": paths} if paths else {}
    ordered = {
        name: sorted(paths, key=os.path.exists) for name, paths in outputs.items()
    }
    by_first = sorted(ordered.items(), key=lambda item: os.path.exists(item[1][0]))
    found = {name: paths if name == "shards" else paths[0] for name, paths in by_first}
    # A job that fails leaves the other files as they were, and Snakemake takes them for new.
    return {
        name: paths if name == "complete" else update(paths)
        for name, paths in found.items()
    }


def index_missed():
    """A note that files of the index were missed behind results, if they ever were.

    Snakemake looks behind no checkpoint whose output is missing, as for another number of shards,
    and so would find nothing to do, whatever else has changed. A note that has changed makes it.
    """
    note = Path(DATASET_RESULTS, ".index_missed")
    results = [f"{RESULTS}/head.npz", f"{RESULTS}/evaluation.json"]
    listed = []
    for found in index_outputs().values():
        listed += [found] if isinstance(found, str) else found
    missed = [path for path in listed if not os.path.exists(path)]
    if missed and any(map(os.path.exists, results)) and workflow.is_main_process:
        if workflow.output_settings.dryrun:
            # What a dry run finds missing may be back when it is run.
            note = Path(".snakemake/index_missed")
        files.count_up(note)
    return str(note) if note.is_file() else []


def indexed(path):
    """A function that gives a file of the index, once the photos are indexed."""

    def after_index(wildcards):
        index_once_made()
        return path.format(**wildcards)

    return after_index


manifest = indexed(f"{DATASET_RESULTS}/manifest.tsv")
applied_corrections = indexed(f"{DATASET_RESULTS}/applied_corrections.tsv")
not_photos = indexed(f"{DATASET_RESULTS}/not_photos.tsv")
digest_to_embed = indexed(f"{DATASET_RESULTS}/shards/{{shard}}.digest")
indexed_shard = indexed(f"{DATASET_RESULTS}/shards/{{shard}}.tsv")


def embeddings(count):
    return expand(f"{RESULTS}/embeddings/{{shard}}.npz", shard=shard_names(count))


EMBEDDINGS = once_counted(embeddings)


def embeddings_complete(count):
    return expand(f"{RESULTS}/embeddings/{{shard}}.complete", shard=shard_names(count))


def kept_manifest(wildcards):
    """The manifest, whose changes make nothing anew.

    A job with this input is decided about once the photos are indexed. One without it would be run
    for every index, though what it depends on stays.
    """
    return ancient(manifest(wildcards))


def shard_to_embed(wildcards):
    """A shard, whose changes embed nothing anew: its photos may only lie elsewhere."""
    return ancient(indexed_shard(wildcards))


def manifest_to_calibrate(wildcards):
    refresh = config["calibration"]["refresh"]
    return manifest(wildcards) if refresh else kept_manifest(wildcards)


def compiler_fetched():
    """The compiler's folder if it is downloaded by this run, else nothing."""
    return COMPILER_FOLDER if COMPILER and COMPILER.startswith(COMPILER_FOLDER) else []


def bundled(wildcards):
    """The models that go to a device: without a compiled extractor, the one for the CPU alone."""
    models = {"model": f"{RESULTS}/retrained_model.tflite"}
    if BACKBONE.compiled or COMPILER:
        models["compiled"] = f"{RESULTS}/retrained_model_edgetpu.tflite"
    return models
