"""A real Slurm of one node on this machine, from Debian's packages."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
ACCOUNTING_PACKAGES = ("slurmdbd", "mariadb-server")
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db")
# Jobs' own steps look for it in no other place.
CONFIGURATION = Path("/etc/slurm/slurm.conf")
ACCOUNTING_CONFIGURATION = CONFIGURATION.with_name("slurmdbd.conf")
MARK = "# Written by the tests of edgetpu-retrain.\n"
CLUSTER = "photos"
PARTITION = "photos"
# Another one, of the same node, where jobs may take so many minutes.
SHORT, SHORT_MINUTES = "short", 48
ACCOUNT = "gardeners"
# MB; no more than a small node has.
MEMORY = 4500
_WAIT_SECONDS = 60


class UnavailableError(Exception):
    """Slurm cannot be run here; the text is the reason."""


def install(accounting: bool = False) -> None:
    """Installs Slurm if it is not there.

    Args:
        accounting: whether the programs that keep records of jobs are wanted too.

    Raises:
        UnavailableError: it cannot be had here, or the machine has a Slurm of its own.
    """
    if os.geteuid() != 0:
        raise UnavailableError("needs to be root, to start Slurm")
    for path in (CONFIGURATION, ACCOUNTING_CONFIGURATION):
        if path.exists() and not path.read_text().startswith(MARK):
            raise UnavailableError(f"this machine has a Slurm of its own ({path})")
    if all(map(shutil.which, PROGRAMS + ACCOUNTING_PROGRAMS * accounting)):
        return
    if not shutil.which("apt-get"):
        raise UnavailableError("Slurm is not installed, and there is no apt-get")
    quiet = {
        "capture_output": True,
        "text": True,
        "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
    }
    subprocess.run(["apt-get", "update", "-qq"], **quiet)
    packages = PACKAGES + ACCOUNTING_PACKAGES * accounting
    done = subprocess.run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], **quiet
    )
    if done.returncode:
        raise UnavailableError(f"Slurm cannot be installed: {done.stderr.strip().splitlines()[-1]}")


@contextlib.contextmanager
def slurm(folder: Path, cpus: int, accounting: bool = False) -> Iterator[Path]:
    """Runs a Slurm whose one node has so many CPUs, and ends it.

    Args:
        folder: where it keeps its state and logs.
        cpus: what the node is said to have.
        accounting: whether records of jobs are kept, in a database.

    Yields:
        A home for the user, which jobs do not see.
    """
    install(accounting)
    folder.mkdir(parents=True)
    CONFIGURATION.write_text(_configuration(folder, cpus, accounting))
    run = Path("/run/munge")
    run.mkdir(exist_ok=True)
    shutil.chown(run, "munge", "munge")
    programs: list[subprocess.Popen] = []

    def start(name: str, *command: str | Path) -> None:
        # The database of records is asked through this socket.
        environment = os.environ | {"MYSQL_UNIX_PORT": str(folder / "mariadb.sock")}
        with open(folder / f"{name}.out", "wb") as log:
            programs.append(
                subprocess.Popen(
                    command, stdout=log, stderr=log, env=environment, start_new_session=True
                )
            )

    try:
        start("munged", "runuser", "-u", "munge", "--", "munged", "--foreground")
        if accounting:
            _start_accounting(folder, start)
        time.sleep(1)
        start("slurmctld", "slurmctld", "-D", "-c")
        time.sleep(1)
        home = folder / "home"
        home.mkdir()
        hide = f"mount -t tmpfs -o ro none '{home}' && exec slurmd -D"
        start("slurmd", "unshare", "--mount", "sh", "-c", hide)
        _wait_for(folder, "idle", "sinfo", "--noheader", "--format=%T", "--partition", PARTITION)
        yield home
    finally:
        subprocess.run(["scancel", "--user", "root"], capture_output=True)
        for program in reversed(programs):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(timeout=20)
        CONFIGURATION.unlink()
        ACCOUNTING_CONFIGURATION.unlink(missing_ok=True)


def _start_accounting(folder: Path, start: Callable[..., None]) -> None:
    """Starts the database and the program that keeps records in it, and makes an account."""
    data = folder / "mariadb"
    own = ("--no-defaults", "--user=root", f"--datadir={data}")
    done = subprocess.run(
        ["mariadb-install-db", *own, "--skip-test-db"], capture_output=True, text=True
    )
    if done.returncode:
        raise UnavailableError(f"no database can be made: {done.stdout[-1000:]}{done.stderr}")
    start("mariadbd", "mariadbd", *own, "--skip-networking", f"--socket={folder}/mariadb.sock")
    ACCOUNTING_CONFIGURATION.write_text(_accounting_configuration(folder))
    ACCOUNTING_CONFIGURATION.chmod(0o600)
    _wait_for(folder, "", "test", "-S", f"{folder}/mariadb.sock")
    start("slurmdbd", "slurmdbd", "-D")
    _wait_for(folder, "", "sacctmgr", "--immediate", "add", "cluster", CLUSTER)
    for what in (("account", ACCOUNT), ("user", "root", f"account={ACCOUNT}")):
        subprocess.run(["sacctmgr", "--immediate", "add", *what], check=True, capture_output=True)


def _configuration(folder: Path, cpus: int, accounting: bool) -> str:
    host = socket.gethostname().split(".")[0]
    storage = "none"
    if accounting:
        storage = "slurmdbd\nAccountingStorageHost=localhost\nAccountingStorageEnforce=associations"
    return f"""{MARK}ClusterName={CLUSTER}
SlurmctldHost={host}(localhost)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/{storage}
ReturnToService=2
MinJobAge=300
KillWait=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=localhost CPUs={cpus} RealMemory={MEMORY} State=UNKNOWN
PartitionName={PARTITION} Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName={SHORT} Nodes={host} MaxTime={SHORT_MINUTES} State=UP
"""


def _accounting_configuration(folder: Path) -> str:
    return f"""{MARK}AuthType=auth/munge
DbdHost=localhost
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
"""


def _wait_for(folder: Path, answer: str, *command: str) -> None:
    """Waits until a command succeeds and prints this, or anything where it is empty."""
    end = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < end:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0 and answer in (done.stdout.strip(), ""):
            return
        time.sleep(0.5)
    logs = [path.read_text()[-1000:] for path in sorted(folder.glob("*.log"))]
    logs += [path.read_text()[-1000:] for path in sorted(folder.glob("*.out"))]
    raise UnavailableError(f"{' '.join(command)} says {done.stdout!r}\n" + "\n".join(logs))
