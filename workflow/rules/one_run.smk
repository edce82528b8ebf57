# One run at a time works in a folder, and after one that was killed the next simply goes on.
#
# Snakemake's own lock files stay when a run is killed. A run that may change something holds a lock
# of the kernel's as well, which does not: whoever gets it knows that no other run is alive, and
# removes Snakemake's. Commands that only look, such as dry runs, take no lock and remove none. Where
# the kernel's lock cannot be had, Snakemake's is left to speak.
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
    return held


# The rule compare makes runs inside of its own, with --nolock.
takes_none = LOOKING | {"--nolock"}
looks = takes_none.intersection(word.partition("=")[0] for word in sys.argv)
if workflow.is_main_process and not workflow.output_settings.dryrun and not looks:
    RUN_LOCK = take_run_lock()
