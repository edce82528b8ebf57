# Paths, and the functions that choose a rule's input.
import json
import re

from snakemake.io import apply_wildcards

from edgetpu_retrain.index import manifest
from edgetpu_retrain.io import program
from edgetpu_retrain.workflow import job

# Jobs in conda environments of their own import the library from here.
os.environ |= {
    "PYTHONPATH": os.pathsep.join(
        filter(None, [str(HERE), os.environ.get("PYTHONPATH")])
    )
}
# What a module's paths begin with, if this is one.
PREFIX = workflow.modifier.path_modifier.prefix or ""
COMPILER_FOLDER = "resources/edgetpu_compiler"

try:
    SETTINGS = read_settings()
    PLAN = plan.make(
        SETTINGS,
        plan.Folders(
            workflow=HERE,
            results=Path(PREFIX, "results"),
            compiler=Path(PREFIX, COMPILER_FOLDER),
            cache=Path(".snakemake/identities"),
        ),
        scan_photos=workflow.is_main_process,
    )
except UserError as error:
    stop(error)
except OSError as error:
    stop(program.describe_os_error(error))
if workflow.is_main_process:
    # What was decided here holds for jobs on other machines.
    DECIDED = [f"device={PLAN.device}", f"shards={PLAN.num_shards}"]
    if PLAN.compiler:
        DECIDED.append(f"compiler={json.dumps({'path': PLAN.compiler})}")
    workflow.config_settings.config_args += DECIDED

DATASET = PLAN.dataset
DATASET_RESOURCES = f"resources/datasets/{DATASET.name}"
DATASET_RESULTS = f"results/{DATASET.name}"
BACKBONE_RESULTS = f"{DATASET_RESULTS}/{{backbone}}"
RESULTS = f"{BACKBONE_RESULTS}/{{recipe}}"
LOGS = f"logs/{DATASET.name}"
SHARDS = manifest.shard_names(PLAN.num_shards)
COMPILED = "compiled.tflite"
MANIFEST = f"{DATASET_RESULTS}/manifest.tsv"
# What stands at the top is of the configured data set, backbone and recipe.
MODEL = {"backbone": PLAN.backbone, "recipe": PLAN.recipe}
# What the model is called in Frigate; photos from there lie in clips/NAME/dataset.
FRIGATE = SETTINGS.frigate or DATASET.name


def one_of(names):
    """A pattern that matches these names, and nothing where there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def backbones_that(condition):
    return one_of(name for name, one in PLAN.backbones.items() if condition(one))


wildcard_constraints:
    backbone=one_of(PLAN.backbones),
    recipe=one_of(PLAN.recipes),
    place=one_of(["backbones", DATASET.name]),
    shard="[0-9]+-of-[0-9]+",
    twin="|_edgetpu",


def fingerprint(rule_name):
    """A function that gives what a job's outputs have to be made of."""

    def of_job(wildcards):
        known = {key: wildcards[key] for key in wildcards.keys() if key != "place"}
        known |= MODEL if rule_name in DELIVERING else {}
        return getattr(PLAN.fingerprints, rule_name)(
            **known, **DELIVERING.get(rule_name, {})
        )

    return of_job


def may_be_by_hand(rule_name):
    """Whether a download without a fingerprint is taken for one that was put in place by hand.

    A download that fails advises to do so. An archive that another address was unpacked from is not.
    """
    unpacked = job.read_fingerprint(f"{PREFIX}{DATASET_RESOURCES}/.extract_dataset")
    known = (None, PLAN.fingerprints.extract_dataset())
    return rule_name == "fetch_backbone" or (
        rule_name == "fetch_dataset" and unpacked in known
    )


def state_of(rule_name, wildcards):
    """Whether a job's outputs are "current", "stale" or (all or some) "missing".

    Snakemake's own notes are not asked: they are gone with .snakemake, and stay behind when results
    are copied.
    """
    output = getattr(rules, rule_name).output
    paths = [apply_wildcards(str(pattern), wildcards) for pattern in output]
    mark = apply_wildcards(str(output.fingerprint), wildcards)
    exist = [os.path.exists(path) for path in paths if path != mark]
    made_of = job.read_fingerprint(mark)
    by_hand = made_of is None and may_be_by_hand(rule_name)
    if by_hand or made_of == fingerprint(rule_name)(wildcards):
        return "current" if all(exist) else "missing"
    return "stale" if any(exist) else "missing"


def unless_made_of(rule_name):
    """An input of no file: a job runs if its outputs are made of something else than is there now."""

    def none(wildcards):
        if state_of(rule_name, wildcards) == "stale":
            mark = getattr(rules, rule_name).output.fingerprint
            workflow.dag.forcefiles.add(apply_wildcards(str(mark), wildcards))
        return []

    return none


def there(rule_name, path):
    """An input whose changes alone do not make a job run: its fingerprint covers what it uses of it.

    For a job that has to run it is an ordinary input: Snakemake looks at no job behind one that
    runs but for the way of inputs that are not ancient.
    """

    def input_file(wildcards):
        found = apply_wildcards(path, wildcards)
        is_current = state_of(rule_name, wildcards) == "current"
        return ancient(found) if is_current else found

    return input_file


def own_file(path):
    """A path of the user's, which a module's prefix is not for."""
    return ancient(os.path.abspath(path) if PREFIX else path)


def archive():
    made = f"{DATASET_RESOURCES}/archive"
    return own_file(DATASET.archive) if DATASET.archive else made


def photos_made():
    """The folder of photos that a rule makes, or nothing where the user's own is read in place."""
    return [] if DATASET.folder else f"{DATASET_RESOURCES}/photos"


def photos_for(rule_name):
    """Unpacked photos that a job reads, which may have been deleted since."""
    return there(rule_name, photos_made()) if photos_made() else []


def backbone_source(backbone, part):
    chosen = PLAN.backbones[backbone]
    return chosen.compiled if part == COMPILED else chosen.source


def backbone_file(backbone, part):
    """A file of the backbone where it is on disk, else where it is downloaded to."""
    path = backbone_source(backbone, part).path
    return own_file(path) if path else f"resources/backbones/{backbone}/{part}"


def network(wildcards):
    name = PLAN.backbones[wildcards.backbone].FILE_NAME
    return backbone_file(wildcards.backbone, name)


def compiled_network(wildcards):
    return backbone_file(wildcards.backbone, COMPILED)


def extractor_file(backbone, twin):
    """The path of an extractor; one that was calibrated on photos belongs to these."""
    calibrated = PLAN.backbones[backbone].CALIBRATED
    place = DATASET_RESULTS if calibrated else "results/backbones"
    return f"{place}/{backbone}/extractor{twin}.tflite"


def extractor(wildcards):
    return extractor_file(wildcards.backbone, wildcards.get("twin", PLAN.twin))


def embeddings(wildcards):
    return expand(
        f"{BACKBONE_RESULTS}/embeddings/{{shard}}.npz", shard=SHARDS, **wildcards
    )


def compared_with_compiled(wildcards):
    """The compiled extractor where it was brought: it has to be of the network that it is for."""
    compiled = PLAN.backbones[wildcards.backbone].compiled
    return extractor_file(wildcards.backbone, "_edgetpu") if compiled else []


def environment(wildcards):
    """The conda environment that a network's kind needs."""
    return f"../envs/{PLAN.backbones[wildcards.backbone].ENVIRONMENT}.yaml"


def of_compared(name):
    """A file of each backbone and recipe that is compared."""
    folders = [f"{one.backbone}/{one.recipe}" for one in PLAN.compared]
    return [f"{DATASET_RESULTS}/{folder}/{name}" for folder in folders]


def twins():
    """What can be had: without a compiled extractor or a compiler, the model for the CPU alone."""
    compiled = PLAN.backbones[PLAN.backbone].compiled or PLAN.compiler
    return ["", "_edgetpu"] if compiled else [""]


# What the fingerprints of what is delivered depend on beside the model.
DELIVERING = {
    "deliver": {},
    "deliver_edgetpu": {},
    "bundle": {"twins": twins()},
    "frigate": {"name": FRIGATE},
}


def configured(pattern):
    """A path of the configured backbone and recipe; Snakemake puts a module's prefix before it."""
    return str(pattern).removeprefix(PREFIX).format(**MODEL)


# The settings that a result depends on.
REPORTED = {"dataset", "dataset_sha256", "test_dataset", "corrections"}
REPORTED |= {"split", "resize", "seed", "max_skipped"}


def reported_settings(wildcards):
    reported = set(REPORTED)
    if PLAN.backbones[wildcards.backbone].CALIBRATED:
        reported.add("calibration")
    return SETTINGS.model_dump(include=reported, exclude_none=True) | {
        "backbone": PLAN.backbone_specs[wildcards.backbone],
        "training": PLAN.recipes[wildcards.recipe],
        "device": PLAN.device,
    }


def compiler_fetched():
    """The compiler's folder if it is downloaded by this run, else nothing."""
    fetched = PLAN.compiler and COMPILER_FOLDER in PLAN.compiler
    return COMPILER_FOLDER if fetched else []


def delivered():
    models = [f"retrained_model{twin}.tflite" for twin in twins()]
    return [*models, "label_map.txt", "report.html"]


def intermediate():
    """What lies between the photos and the model of this run."""
    paths = [*rules.index.output, *rules.collect_skipped.output]
    paths += [
        path
        for shard in SHARDS
        for path in expand(rules.embed.output, shard=shard, allow_missing=True)
    ]
    paths += [*rules.train.output, *rules.evaluate.output, *rules.report.output]
    paths += rules.plot_confusion_matrix.output
    paths += expand(rules.serialize.output.model, twin=twins(), allow_missing=True)
    paths += [extractor_file(PLAN.backbone, twin) for twin in twins()]
    return [configured(path) for path in paths]
