"""A real Slurm of one node on this machine, from Debian's packages."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
# Jobs' own steps look for it in no other place.
CONFIGURATION = Path("/etc/slurm/slurm.conf")
MARK = "# Written by the tests of edgetpu-retrain.\n"
PARTITION = "photos"
# MB; no more than a small node has.
MEMORY = 3000
_WAIT_SECONDS = 60


class UnavailableError(Exception):
    """Slurm cannot be run here; the text is the reason."""


def install() -> None:
    """Installs Slurm if it is not there.

    Raises:
        UnavailableError: it cannot be had here, or the machine has a Slurm of its own.
    """
    if os.geteuid() != 0:
        raise UnavailableError("needs to be root, to start Slurm")
    if CONFIGURATION.exists() and not CONFIGURATION.read_text().startswith(MARK):
        raise UnavailableError(f"this machine has a Slurm of its own ({CONFIGURATION})")
    if all(map(shutil.which, PROGRAMS)):
        return
    if not shutil.which("apt-get"):
        raise UnavailableError("Slurm is not installed, and there is no apt-get")
    quiet = {
        "capture_output": True,
        "text": True,
        "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
    }
    subprocess.run(["apt-get", "update", "-qq"], **quiet)
    done = subprocess.run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], **quiet
    )
    if done.returncode:
        raise UnavailableError(f"Slurm cannot be installed: {done.stderr.strip().splitlines()[-1]}")


@contextlib.contextmanager
def slurm(folder: Path, cpus: int) -> Iterator[None]:
    """Runs a Slurm whose one node has so many CPUs, without accounting, and ends it.

    Args:
        folder: where it keeps its state and logs.
        cpus: what the node is said to have.
    """
    install()
    folder.mkdir(parents=True)
    CONFIGURATION.write_text(_configuration(folder, cpus))
    run = Path("/run/munge")
    run.mkdir(exist_ok=True)
    shutil.chown(run, "munge", "munge")
    programs = []
    try:
        for name, *command in (
            ("munged", "runuser", "-u", "munge", "--", "munged", "--foreground"),
            ("slurmctld", "slurmctld", "-D", "-c"),
            ("slurmd", "slurmd", "-D"),
        ):
            with open(folder / f"{name}.out", "wb") as log:
                programs.append(
                    subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
                )
            time.sleep(1)
        _wait_for_node(folder)
        yield
    finally:
        subprocess.run(["scancel", "--user", "root"], capture_output=True)
        for program in reversed(programs):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(timeout=20)
        CONFIGURATION.unlink()


def _configuration(folder: Path, cpus: int) -> str:
    host = socket.gethostname().split(".")[0]
    return f"""{MARK}ClusterName=photos
SlurmctldHost={host}(localhost)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
AccountingStorageType=accounting_storage/none
ReturnToService=2
MinJobAge=300
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=localhost CPUs={cpus} RealMemory={MEMORY} State=UNKNOWN
PartitionName={PARTITION} Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def _wait_for_node(folder: Path) -> None:
    end = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < end:
        state = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True
        ).stdout
        if state.strip() == "idle":
            return
        time.sleep(1)
    logs = [path.read_text()[-1000:] for path in sorted(folder.glob("slurm*.log"))]
    raise UnavailableError(f"the node does not come up: {state!r}\n" + "\n".join(logs))
