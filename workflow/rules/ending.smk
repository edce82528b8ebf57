# What a run ends with.
import atexit

from snakemake.logging import logger

from edgetpu_retrain.summary import summary

ENDING = {"printed": False}


def print_summary():
    jobs = list(workflow.dag.jobs)
    if ENDING["printed"] or all(job.rule.name != "evaluate" for job in jobs):
        return
    ENDING["printed"] = True
    last = ("deliver", "deliver_edgetpu", "bundle", "frigate")
    delivering = (job for job in jobs if job.rule.name in last)
    delivered = sorted({str(path) for job in delivering for path in job.output})
    # A file that a newer version delivers may not be there yet.
    delivered = list(filter(os.path.exists, delivered))
    evaluated = rules.evaluate.output
    if not os.path.exists(evaluated.evaluation):
        # Snakemake misses a result only where its notes in .snakemake tell of one.
        models = " and ".join(path for path in delivered if path.endswith(".tflite"))
        print(
            f"\nThe results in {RESULTS} are gone. To make them again, delete {models}"
        )
        return
    skipped = rules.collect_skipped.output.skipped
    reported = any(job.rule.name == "report" for job in jobs)
    page = rules.report.output.page if reported else None
    page = page if page and os.path.exists(page) else None
    quantized = rules.quantize.output.report if BACKBONE.CALIBRATED else None
    picture = rules.plot_confusion_matrix.output.picture
    picture = picture if os.path.exists(picture) else None
    text = summary(delivered, evaluated.evaluation, skipped, picture, page, quantized)
    print("", text, sep="\n")


def print_summary_of_nothing():
    # Snakemake has no hook for a run that had nothing to do; it ends with the same summary.
    ran = workflow.scheduler is not None and not (workflow.dryrun or workflow.touch)
    if ran and not len(workflow.dag):
        print_summary()


if workflow.is_main_process:
    atexit.register(print_summary_of_nothing)


# A file that a failed job would have updated need not have been there before.
logger.addFilter(lambda record: not str(record.msg).startswith("Cannot restore "))


onstart:
    # While jobs wait, Snakemake's scheduler keeps a processor busy with a limit that this workflow
    # does not need, the more the more jobs have ended; and it waits out the limit's timespan.
    workflow.scheduler.job_rate_limiter = None


onsuccess:
    if workflow.is_main_process:
        print_summary()
