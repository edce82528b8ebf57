"""Resource requests that fit the nodes of a Slurm cluster, for the profile in profiles/slurm."""

import os
import subprocess
from dataclasses import dataclass

from edgetpu_retrain.errors import UserError

_UNUSABLE = ("down", "drain", "drng", "fail", "maint", "unk")


@dataclass(frozen=True)
class Cluster:
    """What jobs may request.

    Attributes:
        partition: the partition, or several, separated by commas.
        cpus: number of CPUs of the node with the fewest.
        memory_mb: memory of the node with the least, in MB; 0 if memory is not configured in
            Slurm, which then accepts no memory request.
        largest_memory_mb: memory of the node with the most, in MB; 0 likewise.
        minutes: time limit of a job in minutes; None if there is none.
        has_accounting: whether Slurm keeps records of jobs, which ``sacct`` needs.
        account: the value of ``SBATCH_ACCOUNT``; "" for the user's default account.
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
        """The Slurm command to query the status of a job."""
        return "sacct" if self.has_accounting else "squeue"

    def memory(self, initial: int) -> str:
        """Returns the memory to request as a Snakemake expression that doubles with each attempt.

        Args:
            initial: the memory for the first attempt, in MB.
        """
        return f"min({min(initial, self.memory_mb)} * 2 ** (attempt - 1), {self.largest_memory_mb})"

    def runtime(self, initial: int, jobs: int = 1) -> str:
        """Returns the runtime to request as a Snakemake expression that grows with each attempt.

        Args:
            initial: the runtime for the first attempt, in minutes.
            jobs: number of Snakemake jobs that run one after the other in a Slurm job.
        """
        if self.minutes is None:
            return f"{initial} * attempt"
        return f"min({initial} * attempt, {max(self.minutes // jobs, 1)})"


def cluster() -> Cluster:
    """Queries Slurm about the partition in ``SBATCH_PARTITION``, or else the default partition.

    Raises:
        UserError: Slurm is not available, the partition does not exist, or none of its nodes is up.
    """
    # Per node: partition (the default one with *), CPUs, memory in MB, state, time limit.
    listing = _run("sinfo", "-h", "-N", "-o", "%P %c %m %t %l")
    rows = [line.split() for line in listing.splitlines()]
    names = {row[0].rstrip("*") for row in rows}
    default = next((row[0].rstrip("*") for row in rows if row[0].endswith("*")), "")
    partition = os.environ.get("SBATCH_PARTITION", default)
    partitions = partition.split(",")
    if not names.issuperset(partitions):
        problem = f"no partition {partition!r}" if partition else "no default partition"
        raise UserError(
            f"Slurm has {problem}. Choose one of {', '.join(sorted(names))}: "
            "export SBATCH_PARTITION=NAME"
        )
    nodes = [
        (int(cpus), int(memory), _minutes(limit))
        for name, cpus, memory, state, limit in rows
        if name.rstrip("*") in partitions and not state.startswith(_UNUSABLE)
    ]
    if not nodes:
        raise UserError(f"No node of the Slurm partition {partition!r} is up. Check with: sinfo -N")
    cpus, memories, limits = zip(*nodes, strict=True)
    # If memory is not configured, Slurm reports 1 MB.
    has_memory = min(memories) > 1
    has_accounting = "accounting_storage/none" not in _run("scontrol", "show", "config")
    return Cluster(
        partition,
        min(cpus),
        min(memories) if has_memory else 0,
        max(memories) if has_memory else 0,
        min((limit for limit in limits if limit is not None), default=None),
        has_accounting,
        os.environ.get("SBATCH_ACCOUNT", "") if has_accounting else "",
    )


def _minutes(limit: str) -> int | None:
    """Parses [[DAYS-]HOURS:]MINUTES:SECONDS; returns None, no limit, for anything else.

    >>> _minutes("1-12:00:00"), _minutes("30:00"), _minutes("infinite")
    (2160, 30, None)
    """
    days, _, time = limit.rpartition("-")
    if not set(days + time) <= set("0123456789:"):
        return None
    hours, minutes, _ = ["0", *time.split(":")][-3:]
    return (int(days or 0) * 24 + int(hours)) * 60 + int(minutes)


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise UserError(
            f"The Slurm command {command[0]} was not found. Use this profile on a machine that can "
            "submit jobs to Slurm."
        ) from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"Slurm did not respond: {error.stderr.strip()}") from None
