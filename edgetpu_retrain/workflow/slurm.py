"""What fits the nodes of a Slurm cluster; the profile in profiles/slurm asks for it."""

import os
import subprocess
from dataclasses import dataclass

from edgetpu_retrain.errors import UserError

_UNUSABLE = ("down", "drain", "drng", "fail", "maint", "unk")


@dataclass(frozen=True)
class Cluster:
    """What jobs may ask for.

    Attributes:
        partition: where they run; one, or several with commas between.
        cpus: what the smallest of its nodes has.
        memory_mb: likewise; 0 where Slurm was not told, and takes no request.
        largest_memory_mb: what the largest of its nodes has.
        minutes: the longest that a job may take; None where there is no limit.
        has_accounting: whether Slurm keeps records of jobs (`sacct` answers).
        account: that of ``SBATCH_ACCOUNT``, else empty: the user's default one.
    """

    partition: str
    cpus: int
    memory_mb: int
    largest_memory_mb: int
    minutes: int | None
    has_accounting: bool
    account: str = ""

    @property
    def status_command(self) -> str:
        """The command that says how a job ended."""
        return "sacct" if self.has_accounting else "squeue"

    def memory(self, first: int) -> str:
        """The MB to ask for, twice as much each time: for Snakemake, which knows the attempt."""
        return f"min({min(first, self.memory_mb)} * 2 ** (attempt - 1), {self.largest_memory_mb})"

    def runtime(self, first: int, jobs: int = 1) -> str:
        """The minutes to ask for, more each time.

        Args:
            first: the first time.
            jobs: how many run one after the other in one of Slurm's.
        """
        if self.minutes is None:
            return f"{first} * attempt"
        return f"min({first} * attempt, {max(self.minutes // jobs, 1)})"


def cluster() -> Cluster:
    """Asks Slurm for its default partition, or for that of ``SBATCH_PARTITION``.

    Raises:
        UserError: there is no Slurm, no default partition, or no node in it.
    """
    # Per node: partition (the default one with *), CPUs, memory in MB, state, time limit.
    listed = _ask("sinfo", "-h", "-N", "-o", "%P %c %m %t %l")
    rows = [line.split() for line in listed.splitlines()]
    names = {row[0].rstrip("*") for row in rows}
    default = next((row[0].rstrip("*") for row in rows if row[0].endswith("*")), "")
    partition = os.environ.get("SBATCH_PARTITION", default)
    wanted = partition.split(",")
    if not names.issuperset(wanted):
        what = f"no partition {partition!r}" if partition else "no default partition"
        raise UserError(
            f"Slurm has {what}. Name one: export SBATCH_PARTITION=NAME, of "
            f"{', '.join(sorted(names))}."
        )
    nodes = [
        (int(cpus), int(memory), _minutes(limit))
        for name, cpus, memory, state, limit in rows
        if name.rstrip("*") in wanted and not state.startswith(_UNUSABLE)
    ]
    if not nodes:
        raise UserError(f"No node of Slurm's partition {partition!r} is up (sinfo lists them).")
    cpus, memories, limits = zip(*nodes, strict=True)
    # Where memory was not configured, Slurm believes in 1 MB.
    known = min(memories) > 1
    has_accounting = "accounting_storage/none" not in _ask("scontrol", "show", "config")
    return Cluster(
        partition,
        min(cpus),
        min(memories) if known else 0,
        max(memories) if known else 0,
        min((limit for limit in limits if limit is not None), default=None),
        has_accounting,
        os.environ.get("SBATCH_ACCOUNT", "") if has_accounting else "",
    )


def _minutes(limit: str) -> int | None:
    """Reads [[DAYS-]HOURS:]MINUTES:SECONDS; anything else is no limit.

    >>> _minutes("1-12:00:00"), _minutes("30:00"), _minutes("infinite")
    (2160, 30, None)
    """
    days, _, time = limit.rpartition("-")
    if not set(days + time) <= set("0123456789:"):
        return None
    hours, minutes, _ = ["0", *time.split(":")][-3:]
    return (int(days or 0) * 24 + int(hours)) * 60 + int(minutes)


def _ask(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise UserError(
            f"Slurm's program {command[0]} is not found: use this profile on a machine that "
            "submits jobs to Slurm."
        ) from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"Slurm does not answer: {error.stderr.strip()}") from None
