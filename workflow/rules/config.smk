# Find the configuration and check it.
import copy

from edgetpu_retrain.config import yaml_syntax
from edgetpu_retrain.config.settings import Settings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.workflow import commands, console, plan, selection

# The words of this command, to which shown commands add settings and a target.
COMMAND = commands.snakemake(sys.argv[1:])
TARGETS = commands.targets(sys.argv[1:])
CONSOLE = (
    console.install()
    if workflow.is_main_process
    and not (workflow.output_settings.dryrun or workflow.output_settings.verbose)
    else None
)


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


def read_settings():
    """Checks the configuration and fills in defaults."""
    given = workflow.config_settings
    for settings in (given.config, given.overwrite_config):
        # Snakemake merges mappings, but a backbone on the command line replaces the file's.
        if "backbone" in settings and not workflow.modifier.skip_configfile:
            config["backbone"] = copy.deepcopy(settings["backbone"])
            break
    return Settings.parse(config)


CONFIG_FILE = find_config()
