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
        partition: where they run.
        cpus: what the smallest of its nodes has.
        memory_mb: likewise.
        has_accounting: whether Slurm keeps records of jobs (`sacct` answers).
    """

    partition: str
    cpus: int
    memory_mb: int
    has_accounting: bool

    @property
    def status_command(self) -> str:
        """The command that says how a job ended."""
        return "sacct" if self.has_accounting else "squeue"


def cluster() -> Cluster:
    """Asks Slurm for its default partition, or for that of ``SBATCH_PARTITION``.

    Raises:
        UserError: there is no Slurm, no default partition, or no node in it.
    """
    # Per node: partition (the default one with *), CPUs, memory in MB, state.
    rows = [line.split() for line in _ask("sinfo", "-h", "-N", "-o", "%P %c %m %t").splitlines()]
    names = {row[0].rstrip("*") for row in rows}
    default = next((row[0].rstrip("*") for row in rows if row[0].endswith("*")), "")
    partition = os.environ.get("SBATCH_PARTITION", default)
    if partition not in names:
        what = f"no partition {partition!r}" if partition else "no default partition"
        raise UserError(
            f"Slurm has {what}. Name one: export SBATCH_PARTITION=NAME, of "
            f"{', '.join(sorted(names))}."
        )
    nodes = [
        (int(cpus), int(memory))
        for name, cpus, memory, state in rows
        if name.rstrip("*") == partition and not state.startswith(_UNUSABLE)
    ]
    if not nodes:
        raise UserError(f"No node of Slurm's partition {partition!r} is up (sinfo lists them).")
    return Cluster(
        partition,
        min(cpus for cpus, _ in nodes),
        min(memory for _, memory in nodes),
        "accounting_storage/none" not in _ask("scontrol", "show", "config"),
    )


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
