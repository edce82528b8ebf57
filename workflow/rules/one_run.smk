# One run at a time works in a folder, and after one that was killed the next simply goes on.
#
# Snakemake's own lock files stay when a run is killed. A run that may change something holds a lock
# of the kernel's as well, which does not: whoever gets it knows that no other run is alive, and
# removes Snakemake's. Commands that only look, such as dry runs, take no lock and remove none. Where
# the kernel's lock cannot be had, Snakemake's is left to speak.
import atexit

from edgetpu_retrain import locking

# Snakemake does not tell a Snakefile which of its commands it is read for.
LOOKING = {
    *("--lint", "--summary", "-S", "--detailed-summary", "-D", "--report", "--unlock"),
    *(
        "--list",
        "-l",
        "--list-rules",
        "--list-target-rules",
        "--lt",
        "--dag",
        "--d3dag",
    ),
    *(
        "--rulegraph",
        "--filegraph",
        "--list-changes",
        "--lc",
        "--list-input-changes",
        "--li",
    ),
    *("--list-params-changes", "--lp", "--list-untracked", "--lu", "--list-conda-envs"),
}


def take_run_lock():
    """Returns the lock, open as long as this process lives, or None where there are none."""
    try:
        held = locking.lock(".snakemake/running")
    except locking.UnsupportedError:
        return None
    if held is None:
        sys.exit("Another run is working in this folder. Wait until it has ended.")
    for stale in Path(".snakemake/locks").glob("*.lock"):
        stale.unlink(missing_ok=True)
    note_the_run(held)
    wait_for_jobs()
    return held


def wait_for_jobs():
    """Jobs that outlive their run would put old results in place of those of this one."""
    if locking.lock(job.AT_WORK) is None:
        print("Waiting for jobs of the last run, which was killed.", file=sys.stderr)
        locking.lock(job.AT_WORK, wait=True)


def note_the_run(held):
    """Writes into the lock's file that a run goes on, until it ends; says if one never ended."""
    held.seek(0)
    if held.read():
        print(
            "The last run here was killed. What it completed is kept; the rest is made again.",
            file=sys.stderr,
        )
    else:
        held.write("a run goes on\n")
        held.flush()
    atexit.register(held.truncate, 0)


# The rule compare makes runs inside of its own, with --nolock.
takes_none = LOOKING | {"--nolock"}
looks = takes_none.intersection(word.partition("=")[0] for word in sys.argv)
if workflow.is_main_process and not workflow.output_settings.dryrun and not looks:
    RUN_LOCK = take_run_lock()
