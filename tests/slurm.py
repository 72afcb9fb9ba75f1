"""A real Slurm of one node, as anybody: in a directory of its own, on the loopback."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PACKAGES = {
    "munged": "munge",
    "sbatch": "slurm-client",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
}
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
# A requeued job waits for as long as a credential lives, of which 5 s is the least there is.
CONFIGURATION = """\
ClusterName=mcsim
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
KillWait=10
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4096
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """The packages that a Slurm needs and this machine lacks, for a skipped test's reason."""
    packages = [p for program, p in PACKAGES.items() if shutil.which(program, path=PATH) is None]
    return f"apt-get install {' '.join(packages)}" if packages else ""


class Slurm:
    """A cluster that runs. `environment` leads its commands, as sbatch, to it."""

    def __init__(self, directory: Path) -> None:
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("SLURM_")},
            "PATH": PATH,
            "SLURM_CONF": str(directory / "slurm.conf"),
        }

    def call(self, *command: str | Path, cwd: Path | None = None, code: int | None = 0) -> str:
        """What a command prints. code: with which it must exit; None: with any."""
        done = subprocess.run(
            [*map(str, command)],
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert code is None or done.returncode == code, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def states(self) -> dict[str, str]:
        """Of each job and task of an array, as 7 or 7_2, the state, as RUNNING."""
        columns = ("--array", "--noheader", "--states=all", "-O", "JobArrayID:40,State:40")
        lines = self.call("squeue", *columns).splitlines()
        return dict(line.split() for line in lines)

    def wait(self, job: str, seconds: float = 200) -> None:
        """Until a job has ended, one way or another."""
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
        wait_for(lambda: self.states().get(job) in ended, seconds)


@contextmanager
def running() -> Iterator[Slurm]:
    """A cluster, for as long as the block takes."""
    # A short path: those of sockets are at most 108 characters long.
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, ExitStack() as stack:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "munge.key").write_bytes(os.urandom(1024))
        (directory / "munge.key").chmod(0o600)
        for part in ("state", "spool"):
            (directory / part).mkdir()
        controller, node = _free_ports(2)
        configuration = CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            controller=controller,
            node=node,
            user=getpass.getuser(),
            directory=directory,
        )
        (directory / "slurm.conf").write_text(configuration)
        slurm = Slurm(directory)
        options = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
        options["log-file"] = "log"
        files = [f"--{option}={directory}/munge.{name}" for option, name in options.items()]
        stack.enter_context(_daemon(directory, "munged", "--foreground", "--force", *files))
        wait_for((directory / "munge.socket").exists, 10)
        for program in ("slurmctld", "slurmd"):
            stack.enter_context(_daemon(directory, program, "-D", "-f", directory / "slurm.conf"))
        wait_for(lambda: "idle" in slurm.call("sinfo", "--noheader", "-o", "%t", code=None), 30)
        try:
            yield slurm
        finally:
            slurm.call("scancel", f"--user={getpass.getuser()}", "--full", "-s", "KILL", code=None)


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


@contextmanager
def _daemon(directory: Path, program: str, *arguments: str | Path) -> Iterator[None]:
    place = shutil.which(program, path=PATH)
    assert place is not None
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    with (directory / f"{program}.out").open("wb") as output:
        process = subprocess.Popen(
            [place, *map(str, arguments)],
            env={**environment, "PATH": PATH, "SLURM_CONF": str(directory / "slurm.conf")},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
