# Paths, and the functions that choose a rule's input.
SHARDS = shard_names(config["shards"])
COMPILED_NAME = "compiled.tflite"
DATASET_RESOURCES = f"resources/datasets/{DATASET.name}"
BACKBONE_RESOURCES = f"resources/backbones/{BACKBONE.name}"
DATASET_RESULTS = f"results/{DATASET.name}"
RESULTS = f"{DATASET_RESULTS}/{BACKBONE.name}"
EXTRACTORS = f"results/backbones/{BACKBONE.name}"
EMBEDDINGS = expand(f"{RESULTS}/embeddings/{{shard}}.npz", shard=SHARDS)
LOGS = f"logs/{DATASET.name}"
# What the model is called in Frigate; photos from there lie in clips/NAME/dataset.
FRIGATE = config.get("frigate", DATASET.name)


wildcard_constraints:
    part=f"{re.escape(BACKBONE.FILE_NAME)}|{re.escape(COMPILED_NAME)}",
    shard="[0-9]+-of-[0-9]+",
    twin="|_edgetpu",


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


def index_outputs():
    """What the index writes, what is missing first.

    Snakemake makes a checkpoint again for its first output alone, so that must be a missing one.
    """
    outputs = {
        "manifest": [f"{DATASET_RESULTS}/manifest.tsv"],
        "not_photos": [f"{DATASET_RESULTS}/not_photos.tsv"],
        "corrections": [f"{DATASET_RESULTS}/applied_corrections.tsv"],
        "identities": [f"{DATASET_RESULTS}/identities.tsv"],
        "shards": expand(f"{DATASET_RESULTS}/shards/{{shard}}.tsv", shard=SHARDS),
    }
    ordered = {
        name: sorted(paths, key=os.path.exists) for name, paths in outputs.items()
    }
    by_first = sorted(ordered.items(), key=lambda item: os.path.exists(item[1][0]))
    return {
        name: update(paths if name == "shards" else paths[0])
        for name, paths in by_first
    }


def indexed(path):
    """A function that gives a file of the index, once the photos are indexed."""

    def after_index(wildcards):
        checkpoints.index.get()
        return path.format(**wildcards)

    return after_index


manifest = indexed(f"{DATASET_RESULTS}/manifest.tsv")
applied_corrections = indexed(f"{DATASET_RESULTS}/applied_corrections.tsv")
not_photos = indexed(f"{DATASET_RESULTS}/not_photos.tsv")
shard_to_embed = indexed(f"{DATASET_RESULTS}/shards/{{shard}}.tsv")


def compiler_fetched():
    """The compiler's folder if it is downloaded by this run, else nothing."""
    return COMPILER_FOLDER if COMPILER and COMPILER.startswith(COMPILER_FOLDER) else []


def bundled(wildcards):
    """The models that go to a device: without a compiled extractor, the one for the CPU alone."""
    models = {"model": f"{RESULTS}/retrained_model.tflite"}
    if BACKBONE.compiled or COMPILER:
        models["compiled"] = f"{RESULTS}/retrained_model_edgetpu.tflite"
    return models
