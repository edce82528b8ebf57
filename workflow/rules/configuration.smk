# From what the user wrote to the dataset, the backbone and the device of this run.

# Jobs in conda environments of their own import the library from here.
os.environ |= {
    "PYTHONPATH": os.pathsep.join(
        filter(None, [str(workflow.basedir), os.environ.get("PYTHONPATH")])
    )
}


@functools.cache
def read_yaml(name):
    text = Path(workflow.basedir, "workflow", f"{name}.yaml").read_text("utf-8")
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def check_config():
    """Checks the configuration by its schema, which also fills in what is not given."""
    settings = workflow.config_settings
    for given in (settings.config, settings.overwrite_config):
        # Snakemake merges mappings; a backbone given with the command replaces the file's whole.
        if "backbone" in given:
            config["backbone"] = copy.deepcopy(given["backbone"])
            break
    configuration.values_from_text(config, read_yaml("schemas/config.schema"))
    try:
        validate(config, "workflow/schemas/config.schema.yaml")
    except WorkflowError as error:
        raise UserError(configuration.describe(error.__context__)) from None
    configuration.check_split(**config["split"])
    training.check_settings(
        config["training"]["recipe"], set(config["training"]) - {"recipe"}
    )
    if "test_dataset" in config:
        config["test_dataset"] = configuration.check_test_dataset(
            config["test_dataset"]
        )


def find_dataset():
    return configuration.find_dataset(
        config["dataset"], read_yaml("datasets"), config.get("dataset_sha256")
    )


def find_backbone():
    return backbones.parse(backbones.find(config["backbone"], read_yaml("backbones")))


def compared(dataset):
    """The backbones and recipes to compare, the configured ones first."""
    catalogue = read_yaml("backbones")
    entries = [{}]
    for one in config.get("compare", []):
        plain = isinstance(one, str) or "backbone" not in one and "training" not in one
        entries.append({"backbone": one} if plain else one)
    found = []
    for one in entries:
        wanted = one.get("backbone", config["backbone"])
        name = backbones.parse(backbones.find(wanted, catalogue)).name
        entry = {
            "name": name,
            "backbone": wanted,
            "training": one.get("training", config["training"]),
            "results": f"results/{dataset.name}/{name}",
            "edgetpu_ms": catalogue.get(name, {}).get("edgetpu_ms"),
        }
        if entry not in found:
            found.append(entry)
    return found


def decide(backbone):
    """Chooses device and compiler, once a run: jobs on other machines are told by --config."""
    program = compiler.find(config["compiler"], COMPILER_FOLDER)
    device = config["device"]
    if device == "auto" and not (backbone.compiled or program):
        device = "cpu"
    device = devices.resolve_device(device)
    if workflow.is_main_process:
        decided = [f"device={device}"]
        if program:
            decided.append(f"compiler={json.dumps({'path': program})}")
        workflow.config_settings.config_args += decided
    return device, program
