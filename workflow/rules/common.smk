import copy
import os
import shutil
import sys

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from edgetpu_retrain import UserError, configuration
from edgetpu_retrain.compiler import PROGRAM, can_run_here
from edgetpu_retrain.dataset import listing_digest
from edgetpu_retrain.interpreter import resolve_device

# Jobs in conda environments of their own import the library from here.
os.environ |= {
    "PYTHONPATH": os.pathsep.join(
        filter(None, [str(workflow.basedir), os.environ.get("PYTHONPATH")])
    )
}


def drop_stale_lock():
    """Removes Snakemake's lock of this folder where the run that took it was killed.

    Every run holds a lock of the kernel's as well, which ends with its process, however that ends.
    Where another run has it, Snakemake's own lock is left to speak.
    """
    try:
        import fcntl
    except ImportError:
        return None
    state = Path(".snakemake")
    state.mkdir(exist_ok=True)
    holder = open(state / "running", "w")
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None
    for lock in (state / "locks").glob("*.lock"):
        lock.unlink(missing_ok=True)
    return holder


# Open as long as this process lives.
RUNNING = drop_stale_lock()


def read_yaml(name):
    with open(Path(workflow.basedir, "workflow", f"{name}.yaml")) as file:
        return yaml.safe_load(file)


def check(data, schema, what):
    configuration.values_from_text(data, read_yaml(f"schemas/{schema}.schema"))
    try:
        validate(data, f"../schemas/{schema}.schema.yaml")
    except WorkflowError as error:
        raise UserError(configuration.describe(error.__context__, what)) from None


def resolve_config():
    """Returns the dataset and the backbone that the configuration names."""
    # Snakemake merges mappings; a backbone given on the command line replaces the file's whole.
    settings = workflow.config_settings
    for given in (settings.config, settings.overwrite_config):
        if "backbone" in given:
            config["backbone"] = copy.deepcopy(given["backbone"])
            break
    check(config, "config", "config")
    configuration.check_split(**config["split"])
    dataset = configuration.find_dataset(
        config["dataset"], read_yaml("datasets"), config.get("dataset_sha256")
    )
    entry = configuration.find_backbone(config["backbone"], read_yaml("backbones"))
    check(entry, "backbone", "config: backbone")
    return dataset, configuration.parse_backbone(entry)


try:
    DATASET, BACKBONE = resolve_config()
except UserError as error:
    sys.exit(str(error))

SHARDS = [f"{i:02d}" for i in range(config["shards"])]
DATASET_RESOURCES = f"resources/datasets/{DATASET.name}"
BACKBONE_RESOURCES = f"resources/backbones/{BACKBONE.name}"
DATASET_RESULTS = f"results/{DATASET.name}"
RESULTS = f"{DATASET_RESULTS}/{BACKBONE.name}"
EXTRACTORS = f"results/backbones/{BACKBONE.name}"
LOGS = f"logs/{DATASET.name}"


wildcard_constraints:
    part="extractor.tflite|compiled.tflite|frozen_graph.pb|tflite.tflite",
    shard="[0-9]+",
    twin="|_edgetpu",


def photos_made():
    """The folder of photos that a rule makes, or nothing where the user's own is read in place."""
    if DATASET.drawn:
        return f"{DATASET_RESOURCES}/drawn"
    if DATASET.archive or DATASET.urls:
        return f"{DATASET_RESOURCES}/photos"
    return []


def archive():
    return DATASET.archive or f"{DATASET_RESOURCES}/archive"


def backbone_file(part):
    """A file of the backbone where it is on disk, else where it is downloaded to."""
    source = getattr(BACKBONE, Path(part).stem)
    return source.path or f"{BACKBONE_RESOURCES}/{part}"


def network():
    """What the extractor is cut off from."""
    return backbone_file(
        "frozen_graph.pb" if BACKBONE.frozen_graph else "tflite.tflite"
    )


def extractor(twin):
    """The extractor for the CPU (twin is empty) or the Edge TPU (twin is _edgetpu)."""
    part = "compiled.tflite" if twin else "extractor.tflite"
    if getattr(BACKBONE, Path(part).stem):
        return backbone_file(part)
    return f"{EXTRACTORS}/extractor{twin}.tflite"


def compiler_fetched():
    """The compiler's folder if it has to be downloaded, else nothing."""
    wanted = config["compiler"]
    if "path" in wanted or shutil.which(PROGRAM) or not can_run_here():
        return []
    return "resources/edgetpu_compiler" if wanted["sources"] else []


def compiler_program():
    if compiler_fetched():
        return f"{compiler_fetched()}/usr/bin/{PROGRAM}"
    return config["compiler"].get("path") or shutil.which(PROGRAM)


def extractor_and_twin(wildcards):
    """What a head is appended to; for the Edge TPU also the extractor that it must agree with."""
    found = {"extractor": extractor(wildcards.twin)}
    if wildcards.twin and not config["compiler"]["allow_cpu_operators"]:
        found["twin"] = extractor("")
    return found


def choose_device():
    """The configured device; auto is the CPU where no compiled extractor can be had."""
    if config["device"] == "auto" and not (BACKBONE.compiled or compiler_program()):
        return "cpu"
    return resolve_device(config["device"])


DEVICE = choose_device()


def device_twin():
    return "" if DEVICE == "cpu" else "_edgetpu"


def manifests_to_write():
    """All shard manifests, missing ones first.

    Snakemake makes a checkpoint again for its first output alone, so that must be a missing one.
    """
    paths = expand(f"{DATASET_RESULTS}/shards/{{shard}}.tsv", shard=SHARDS)
    return sorted(paths, key=lambda path: (Path(path).is_file(), path))


def manifests(wildcards):
    """All shard manifests, once the photos are indexed."""
    checkpoints.index_photos.get()
    return expand(f"{DATASET_RESULTS}/shards/{{shard}}.tsv", shard=SHARDS)


def manifest(wildcards):
    """One shard's manifest, once the photos are indexed."""
    checkpoints.index_photos.get()
    return f"{DATASET_RESULTS}/shards/{wildcards.shard}.tsv"
