# One run at a time, and what it ends with.
import atexit

from edgetpu_retrain.backbone import compiler
from edgetpu_retrain.report.summary import summary
from edgetpu_retrain.workflow import locking

HELD = []


def begin():
    """Takes the lock of the kernel's, which ends with this process, however that ends.

    Snakemake's own would stay after a power cut; profiles/default switches it off.
    """
    try:
        held = locking.lock(".snakemake/running")
        if held is None:
            sys.exit("Another run is working in this folder. Wait until it has ended.")
        # Jobs that outlive a killed run would put old results in place of those of this one.
        if locking.lock(job.AT_WORK) is None:
            print(
                "Waiting for jobs of the last run, which was killed.", file=sys.stderr
            )
            locking.lock(job.AT_WORK, wait=True)
        HELD.append(held)
    except locking.UnsupportedError:
        # As on some network file systems.
        pass


async def accept_any_time(job, outputs):
    """In place of Snakemake's error that outputs are older than inputs, as where a clock was set back.

    Fingerprints decide what is current.
    """


def on_disk(pattern):
    return PREFIX + configured(pattern)


def print_summary():
    wanted = {job.rule.name for job in workflow.dag.jobs}
    evaluation = on_disk(rules.evaluate.output.evaluation)
    # What was compared has a table of its own.
    if not wanted & ({"deliver"} if "compare" in wanted else {"deliver", "evaluate"}):
        return
    if not os.path.exists(evaluation):
        if "deliver" in wanted:
            gone = os.path.dirname(evaluation)
            print(f"\nThe results in {gone} are gone. The target all makes them again.")
        return
    shown = {
        "deliver": ["retrained_model.tflite", "label_map.txt", "report.html"],
        "deliver_edgetpu": ["retrained_model_edgetpu.tflite"],
        "bundle": ["bundle", "bundle.zip"],
        "frigate": [f"frigate/{FRIGATE}"],
    }
    top = [PREFIX + path for name in wanted & shown.keys() for path in shown[name]]
    # What was deleted since is not spoken of.
    beside = [rules.plot_confusion_matrix.output.picture, rules.report.output.page]
    if PLAN.backbones[PLAN.backbone].CALIBRATED:
        beside.append(rules.quantize.output.report)
    beside = [path if os.path.exists(path) else None for path in map(on_disk, beside)]
    try:
        text = summary(
            sorted(filter(os.path.exists, top)),
            evaluation,
            on_disk(rules.collect_skipped.output.skipped),
            *beside,
        )
    except UserError as error:
        text = f"Error: {error}"
    except OSError as error:
        text = f"Error: {job.sentence(error)}"
    print("", text, sep="\n")
    if "deliver" in wanted and len(twins()) == 1:
        print(f"No model for the Edge TPU was made: {compiler.WHY_NOT_COMPILED}")


def print_summary_of_nothing():
    # Snakemake has no hook for a run that had nothing to do; it ends with the same summary.
    ran = workflow.scheduler is not None and not (workflow.dryrun or workflow.touch)
    if ran and not len(workflow.dag):
        print_summary()


if workflow.is_main_process:
    atexit.register(print_summary_of_nothing)


onstart:
    # While jobs wait, Snakemake's scheduler keeps a processor busy with a limit that this workflow
    # does not need, the more the more jobs have ended; and it waits out the limit's timespan.
    workflow.scheduler.job_rate_limiter = None
    workflow.dag.check_output_mtime = accept_any_time
    if workflow.is_main_process:
        begin()


onsuccess:
    if workflow.is_main_process:
        print_summary()


onerror:
    # The model for the CPU may be complete where that for the Edge TPU could not be made.
    if workflow.is_main_process and state_of("deliver", {}) == "current":
        print_summary()
