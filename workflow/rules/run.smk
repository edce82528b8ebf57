# Allow one run at a time, and print a summary at its end.
import atexit

from edgetpu_retrain.backbone import compiler, kinds
from edgetpu_retrain.deploy import deliver
from edgetpu_retrain.errors import how_to_install
from edgetpu_retrain.report.summary import summary
from edgetpu_retrain.workflow import locking

HELD = []
# What was delivered before this run.
DELIVERED_BEFORE = []
RECORDS = f"{PREFIX}results/.delivered"


def begin():
    """Takes a lock that the kernel releases when this process ends, however it ends.

    Snakemake's own lock, which a power cut leaves behind, is switched off in profiles/default.
    """
    try:
        held = locking.lock(".snakemake/running")
        if held is None:
            sys.exit("Another run is working in this folder. Wait until it has ended.")
        # Jobs that outlive a killed run would replace this run's results with old ones.
        if locking.lock(job.ACTIVE_JOBS_LOCK) is None:
            print(
                "Waiting for jobs of the last run, which was killed.", file=sys.stderr
            )
            locking.lock(job.ACTIVE_JOBS_LOCK, wait=True)
        HELD.append(held)
    except locking.UnsupportedError:
        # Some network file systems have no locks.
        pass


def ask_before_download():
    """Asks before the default dataset is downloaded, if there is somebody to ask."""
    given = workflow.config_settings
    is_given = "dataset" in {**given.config, **given.overwrite_config}
    is_asked = sys.stdin.isatty() and sys.stderr.isatty() and "CI" not in os.environ
    catalogue = selection.read_catalogue(HERE, "datasets")
    if is_given or not is_asked or PREFIX or SETTINGS.dataset not in catalogue:
        return
    if not any(one.rule.name == "fetch_dataset" for one in workflow.dag.needrun_jobs()):
        return
    print(
        f"No dataset is given. The default in config.yaml is {DATASET.name}: "
        f"{catalogue[DATASET.name]['description']}, to download.\nTo train on your own photos, sorted into "
        f"one folder per class:\n  {commands.join(COMMAND, {'dataset': 'FOLDER'}, TARGETS)}\n"
        f"Download {DATASET.name}? [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        sys.exit("Nothing was downloaded.")


def check_packages():
    """Ends the run before its first job if packages that a job needs are not installed."""
    if IN_CONDA:
        return
    making = {"make_extractor", "make_float_extractor", "quantize"}
    making |= {"fine_tune", "fine_tune_folds"}
    for one in workflow.dag.needrun_jobs():
        try:
            if one.rule.name in making:
                kinds.check_installed(PLAN.backbones[one.wildcards.backbone])
            if one.rule.name == "report" and SETTINGS.unlabelled:
                check_groupable()
        except UserError as error:
            stop(error)


def check_groupable():
    """Raises a UserError if the report cannot group photos without a label."""
    if importlib.util.find_spec("sklearn") is None:
        raise UserError(
            "Photos without a label (unlabelled in the configuration) are grouped with "
            f"scikit-learn, which is not installed here. {how_to_install('label')}"
        )


async def accept_any_time(job, outputs):
    """Replaces Snakemake's error for outputs older than inputs, as after a clock was set back.

    Fingerprints decide what is current, not times.
    """


def on_disk(pattern):
    return PREFIX + configured(pattern)


def command_to_classify(model):
    script = HERE / "scripts/classify_image.py"
    command = commands.python(script, "--model", commands.path(model), "--input")
    return f"{command} PHOTO_OR_FOLDER"


def print_summary():
    try:
        with program.standard_output():
            print_summary_of_run()
    except UserError as error:
        stop(error)


def print_summary_of_run():
    wanted = {job.rule.name for job in workflow.dag.jobs}
    evaluation = on_disk(rules.evaluate.output.evaluation)
    # `compare` prints a table instead.
    if not wanted & ({"deliver"} if "compare" in wanted else {"deliver", "evaluate"}):
        return
    if not os.path.exists(evaluation):
        if "deliver" in wanted:
            gone = os.path.dirname(evaluation)
            print(f"\nThe results in {gone} are gone. To make them again:")
            print(f"  {commands.join(COMMAND, targets=['all'])}")
        return
    shown = {
        "deliver": ["retrained_model.tflite", "label_map.txt", "report.html"],
        "deliver_edgetpu": ["retrained_model_edgetpu.tflite"],
        "bundle": ["bundle", "bundle.zip"],
        "frigate": [f"frigate/{FRIGATE}"],
    }
    top = [PREFIX + path for name in wanted & shown.keys() for path in shown[name]]
    # Leave out files that have been deleted.
    beside = [rules.plot_confusion_matrix.output.picture, rules.report.output.page]
    chosen = PLAN.backbones[PLAN.backbone]
    beside.append(rules.quantize.output.report if chosen.CALIBRATED else "")
    beside.append(rules.fine_tune.output.report if chosen.FINE_TUNED else "")
    beside = [path if os.path.isfile(path) else None for path in map(on_disk, beside)]
    try:
        text = summary(
            sorted(filter(os.path.exists, top)),
            evaluation,
            on_disk(rules.collect_skipped.output.skipped),
            *beside,
            classify=command_to_classify,
            bundle=None if "bundle" in wanted else SHOWN_COMMANDS["bundle"],
            removed=[path for path in DELIVERED_BEFORE if not os.path.exists(path)],
        )
    except UserError as error:
        text = f"Error: {error}"
    except OSError as error:
        text = f"Error: {program.describe_os_error(error)}"
    print("", text, sep="\n")
    if "deliver" in wanted and len(twins()) == 1:
        print(f"No model for the Edge TPU was made: {compiler.WHY_NOT_COMPILED}")


def print_summary_of_nothing():
    # Snakemake has no hook for a run with nothing to do, which should print the summary, too.
    ran = workflow.scheduler is not None and not (workflow.dryrun or workflow.touch)
    if ran and not len(workflow.dag):
        try:
            print_summary()
        except SystemExit as error:
            # While Python exits, this would be shown as a traceback, and the status would be 0.
            if error.code != 1:
                print(error.code, file=sys.stderr, flush=True)
            os._exit(1)


if workflow.is_main_process:
    atexit.register(print_summary_of_nothing)


onstart:
    # This workflow needs no rate limit on jobs. Snakemake's keeps a core busy while jobs wait, more so
    # the more jobs have ended, and makes the run wait for the limit's timespan.
    workflow.scheduler.job_rate_limiter = None
    workflow.dag.check_output_mtime = accept_any_time
    if workflow.is_main_process:
        check_packages()
        ask_before_download()
        begin()
        try:
            DELIVERED_BEFORE.extend(deliver.delivered(RECORDS))
        except UserError as error:
            stop(error)


onsuccess:
    if workflow.is_main_process:
        print_summary()


onerror:
    # The CPU model may be complete even though the Edge TPU model could not be made.
    is_delivered = state_of("deliver", {}) == "current"
    if workflow.is_main_process and is_delivered:
        print_summary()
    if CONSOLE:
        CONSOLE.repeat_errors(always=is_delivered)
