# Find the configuration and check it.
import copy

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from edgetpu_retrain import UserError, configuration, plan, yaml_syntax


def stop(error):
    """Ends the run with a message instead of a traceback."""
    sys.exit(f"Error: {error}")


def find_config():
    path = "config.yaml" if os.path.exists("config.yaml") else str(HERE / "config.yaml")
    try:
        yaml_syntax.check(path)
    except UserError as error:
        stop(error)
    return path


def check_config():
    """Checks the configuration against its schema and fills in defaults."""
    given = workflow.config_settings
    for settings in (given.config, given.overwrite_config):
        # Snakemake merges mappings, but a backbone on the command line replaces the file's.
        if "backbone" in settings and not workflow.modifier.skip_configfile:
            config["backbone"] = copy.deepcopy(settings["backbone"])
            break
    schema = plan.read_yaml(HERE / "workflow/schemas/config.schema.yaml")
    configuration.values_from_text(config, schema)
    try:
        validate(config, "../schemas/config.schema.yaml")
    except WorkflowError as error:
        raise UserError(configuration.describe(error.__context__)) from None
    configuration.check_split(**config["split"])
    if "test_dataset" in config:
        folder = configuration.check_test_dataset(config["test_dataset"])
        config["test_dataset"] = folder


CONFIG_FILE = find_config()
