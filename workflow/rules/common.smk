# Paths, and the functions that choose the inputs of rules.
import importlib.util
import json
import re

from snakemake.io import apply_wildcards
from snakemake.settings.types import DeploymentMethod

from edgetpu_retrain.backbone.fine_tuned import is_nested
from edgetpu_retrain.index import manifest
from edgetpu_retrain.io import program
from edgetpu_retrain.workflow import job

# Jobs in conda environments import the library from here.
os.environ |= {
    "PYTHONPATH": os.pathsep.join(
        filter(None, [str(HERE), os.environ.get("PYTHONPATH")])
    )
}
# The prefix of a module's paths; empty if this workflow is not used as a module.
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
    # Pass these decisions on to jobs on other machines.
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
UNLABELLED = f"{DATASET_RESULTS}/unlabelled.tsv"
# The files at the top of the folder belong to the configured backbone and recipe.
MODEL = {"backbone": PLAN.backbone, "recipe": PLAN.recipe}
# Jobs find the packages of every extra in their own environments.
IN_CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
# Labelling begins before there are enough labels to fine-tune a network with.
BASE = PLAN.backbones[PLAN.backbone]
LABELLING = {"backbone": BASE.base.name if BASE.FINE_TUNED else BASE.name}
# The model's name in Frigate, which keeps its photos in clips/NAME/dataset.
FRIGATE = SETTINGS.frigate or DATASET.frigate or DATASET.name


def one_of(names):
    """Returns a pattern that matches these names only; without names it matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


def backbones_that(condition):
    return one_of(name for name, one in PLAN.backbones.items() if condition(one))


wildcard_constraints:
    backbone=one_of(PLAN.backbones),
    recipe=one_of(PLAN.recipes),
    packed=one_of(PLAN.packed),
    place=one_of(["backbones", DATASET.name]),
    shard="[0-9]+-of-[0-9]+",
    twin="|_edgetpu",


def fingerprint(rule_name):
    """Returns a function that computes the fingerprint that a job's outputs should carry."""

    def of_job(wildcards):
        known = {key: wildcards[key] for key in wildcards.keys() if key != "place"}
        if rule_name in DELIVERING:
            known |= MODEL | DELIVERING[rule_name]
        return getattr(PLAN.fingerprints, rule_name)(**known)

    return of_job


def may_be_by_hand(rule_name):
    """Returns whether a downloaded file without a fingerprint may have been put there by hand.

    A failed download tells the user to do that. An archive is not accepted if the photos were
    unpacked from an archive at another URL.
    """
    unpacked = job.read_fingerprint(f"{PREFIX}{DATASET_RESOURCES}/.extract_dataset")
    known = (None, PLAN.fingerprints.extract_dataset(DATASET.name))
    return rule_name == "fetch_backbone" or (
        rule_name == "fetch_dataset" and unpacked in known
    )


def state_of(rule_name, wildcards):
    """Returns whether a job's outputs are "current", "stale" or "missing" (some or all of them).

    This does not rely on Snakemake's metadata, which is lost when .snakemake is deleted or results
    are copied elsewhere.
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
    """Returns an input function without files, which makes a job run if its outputs are stale."""

    def none(wildcards):
        if state_of(rule_name, wildcards) == "stale":
            mark = getattr(rules, rule_name).output.fingerprint
            workflow.dag.forcefiles.add(apply_wildcards(str(mark), wildcards))
        return []

    return none


def there(rule_name, path):
    """Returns an input whose changes alone do not make a job run.

    The job's fingerprint covers the part of the file that the job uses. For a job that has to run,
    this is an ordinary input, because Snakemake does not follow ancient inputs to the jobs that
    make them.
    """

    def input_file(wildcards):
        found = apply_wildcards(path, wildcards)
        is_current = state_of(rule_name, wildcards) == "current"
        return ancient(found) if is_current else found

    return input_file


def own_file(path):
    """Returns a path of the user's own, which must not get a module's prefix."""
    return ancient(os.path.abspath(path) if PREFIX else path)


def archive(wildcards):
    path = PLAN.packed[wildcards.packed].archive
    return own_file(path) if path else f"{DATASET_RESOURCES}/archive"


def photos_for(rule_name):
    """Returns the folders of unpacked photos as inputs: they may have been deleted since.

    That of the dataset comes first. Folders of the user's own are read in place.
    """
    unpacked = [
        there(rule_name, f"resources/datasets/{name}/photos") for name in PLAN.packed
    ]
    return lambda wildcards: [input_file(wildcards) for input_file in unpacked]


def backbone_source(backbone, part):
    chosen = PLAN.backbones[backbone]
    return chosen.compiled if part == COMPILED else chosen.source


def backbone_file(backbone, part):
    """Returns where a file of the backbone is on disk, or where it will be downloaded to."""
    path = backbone_source(backbone, part).path
    return own_file(path) if path else f"resources/backbones/{backbone}/{part}"


def network(wildcards):
    name = PLAN.backbones[wildcards.backbone].FILE_NAME
    return backbone_file(wildcards.backbone, name)


def compiled_network(wildcards):
    return backbone_file(wildcards.backbone, COMPILED)


def extractor_file(backbone, twin):
    """Returns the path of an extractor; one made with photos is stored with their dataset."""
    of_dataset = PLAN.backbones[backbone].belongs_to_dataset
    place = DATASET_RESULTS if of_dataset else "results/backbones"
    return f"{place}/{backbone}/extractor{twin}.tflite"


def extractor(wildcards):
    return extractor_file(wildcards.backbone, wildcards.get("twin", PLAN.twin))


def base_extractor(twin):
    """Returns a function that returns the extractor that a fine-tuned one is made from."""
    return lambda wildcards: extractor_file(
        PLAN.backbones[wildcards.backbone].base.name, twin
    )


def base_embeddings(rule_name):
    """Returns the embeddings by the extractor before fine-tuning, as `there` does."""

    def input_files(wildcards):
        paths = embeddings({"backbone": PLAN.backbones[wildcards.backbone].base.name})
        return ancient(paths) if state_of(rule_name, wildcards) == "current" else paths

    return input_files


def tuned_on(wildcards):
    """Returns the table of photos that the extractor was fine-tuned on, if it was."""
    is_fine_tuned = PLAN.backbones[wildcards.backbone].FINE_TUNED
    return f"{BACKBONE_RESULTS}/tuned_on.tsv" if is_fine_tuned else []


def pseudo_labelled(path):
    """Returns an input function with the path, for recipes that learn from unlabelled photos."""

    def input_file(wildcards):
        if not PLAN.recipes[wildcards.recipe].get("pseudo_labels"):
            return []
        return there("train", path)(wildcards)

    return input_file


def nested(wildcards):
    """Returns the embeddings by networks that were tuned without a fold, if they are wanted."""
    chosen = PLAN.backbones[wildcards.backbone]
    return f"{BACKBONE_RESULTS}/nested.npz" if is_nested(chosen) else []


def embeddings(wildcards):
    return expand(
        f"{BACKBONE_RESULTS}/embeddings/{{shard}}.npz", shard=SHARDS, **wildcards
    )


def compared_with_compiled(wildcards):
    """Returns the compiled extractor if it was not compiled here: it has to fit the network."""
    if PLAN.backbones[wildcards.backbone].needs_compiler:
        return []
    return extractor_file(wildcards.backbone, "_edgetpu")


def environment(wildcards):
    """Returns the conda environment that this kind of network needs."""
    return f"../envs/{PLAN.backbones[wildcards.backbone].ENVIRONMENT}.yaml"


def of_compared(name):
    """Returns the paths of a file for every backbone and recipe in the comparison."""
    folders = [f"{one.backbone}/{one.recipe}" for one in PLAN.compared]
    return [f"{DATASET_RESULTS}/{folder}/{name}" for folder in folders]


def twins():
    """Returns the suffixes of the models that can be made: without a way to compile, the CPU's."""
    can_be_made = PLAN.compiler or not PLAN.backbones[PLAN.backbone].needs_compiler
    return ["", "_edgetpu"] if can_be_made else [""]


# What the fingerprints of files of the configured model depend on besides the model.
DELIVERING = {
    "label": {"labels": PLAN.labels, **LABELLING},
    "deliver": {},
    "deliver_edgetpu": {},
    "bundle": {"twins": twins()},
    "frigate": {"name": FRIGATE},
}


def configured(pattern, model=MODEL):
    """Returns a path for the configured backbone and recipe; Snakemake adds a module's prefix."""
    return str(pattern).removeprefix(PREFIX).format(**model)


# The settings that the report lists.
REPORTED = {"dataset", "dataset_sha256", "unlabelled", "test_dataset", "corrections"}
REPORTED |= {"none", "strangers", "split", "resize", "seed", "max_skipped"}


def reported_settings(wildcards):
    chosen = PLAN.backbones[wildcards.backbone]
    reported = set(REPORTED)
    if chosen.CALIBRATED:
        reported.add("calibration")
    settings = SETTINGS.model_dump(include=reported, exclude_none=True)
    # An entry of `compare` may be fine-tuned in another way than is configured, or not at all.
    if chosen.FINE_TUNED:
        own = {key: getattr(chosen, key) for key in ("layers", "mirror", "nested")}
        settings["fine_tune"] = SETTINGS.fine_tune.model_dump() | own
    elif SETTINGS.fine_tune.layers:
        settings["fine_tune"] = {"layers": 0}
    if not SETTINGS.none:
        del settings["none"]
    if not SETTINGS.unlabelled:
        del settings["unlabelled"]
    elif not SETTINGS.dataset:
        # Without this, the command would use the dataset in config.yaml.
        settings["dataset"] = ""
    return settings | {
        "backbone": PLAN.backbone_specs[wildcards.backbone],
        "training": PLAN.recipes[wildcards.recipe],
        "device": PLAN.device,
    }


# What the summary and the report tell the user to type.
SHOWN_COMMANDS = {
    "bundle": commands.join(COMMAND, targets=["bundle"]),
    "compare": commands.join(COMMAND, targets=["compare"]),
    "correct": commands.join(COMMAND, {"corrections": "corrections.tsv"}, TARGETS),
}


def shown_commands(wildcards, input):
    """Returns the commands that the report shows, by what they do.

    Snakemake does not run a job again because of params that are functions of its input.
    """
    again = commands.join(COMMAND, reported_settings(wildcards), TARGETS)
    shown = SHOWN_COMMANDS | {"again": again}
    if None in PLAN.label_lists.values():
        label_map = apply_wildcards(str(rules.train.output.label_map), wildcards)
        script = HERE / "scripts/show_backbones.py"
        shown["labels"] = commands.python(script, "--for", commands.path(label_map))
    return shown


def edgetpu_model(wildcards, input):
    """Returns the name of the Edge TPU model, if it can be made and the report does not need it."""
    is_made = len(twins()) > 1 and not PLAN.twin
    return "retrained_model_edgetpu.tflite" if is_made else ""


def compiler_fetched():
    """Returns the folder of the compiler if this run downloads it, otherwise nothing."""
    fetched = PLAN.compiler and COMPILER_FOLDER in PLAN.compiler
    return COMPILER_FOLDER if fetched else []


def delivered():
    models = [f"retrained_model{twin}.tflite" for twin in twins()]
    return [*models, "label_map.txt", "report.html"]


def picture():
    """Returns the confusion matrix as a picture; nothing without the extra that draws it."""
    can_draw = IN_CONDA or importlib.util.find_spec("matplotlib")
    drawn = rules.plot_confusion_matrix.output.picture
    return configured(drawn) if can_draw else []


def intermediate():
    """Returns the files between the photos and the model of this run."""
    paths = [*rules.index.output, *rules.collect_skipped.output]
    paths += [
        path
        for shard in SHARDS
        for path in expand(rules.embed.output, shard=shard, allow_missing=True)
    ]
    paths += [*rules.train.output, *rules.evaluate.output, *rules.report.output]
    if picture():
        paths += rules.plot_confusion_matrix.output
    paths += expand(rules.serialize.output.model, twin=twins(), allow_missing=True)
    paths += [extractor_file(PLAN.backbone, twin) for twin in twins()]
    return [configured(path) for path in paths]
