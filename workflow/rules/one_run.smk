# One run at a time works in a folder, and after one that was killed the next simply goes on.
#
# Snakemake's own lock files stay when a run is killed. A run that executes jobs holds a lock of the
# kernel's as well, which does not: whoever gets it knows that no other run is alive, and removes
# Snakemake's. Dry runs take neither. Where the kernel's lock cannot be had, Snakemake's is left to
# speak.
from edgetpu_retrain import locking

RUN_LOCK = ".snakemake/running"
# Open as long as this process lives.
RUN = {"lock": None, "supported": True}


def take_run_lock(wait=0):
    if RUN["lock"] is None and RUN["supported"]:
        try:
            RUN["lock"] = locking.lock(RUN_LOCK, wait)
        except locking.UnsupportedError:
            RUN["supported"] = False
    return RUN["lock"] is not None


if workflow.is_main_process and not workflow.output_settings.dryrun:
    if take_run_lock():
        for stale in Path(".snakemake/locks").glob("*.lock"):
            stale.unlink(missing_ok=True)


onstart:
    # Commands that only look, such as --lint, hold the lock for a moment too.
    if workflow.is_main_process and not take_run_lock(wait=20) and RUN["supported"]:
        sys.exit("Another run is working in this folder. Wait until it has ended.")
