"""The scripts that batch systems run: templates of bash, filled in with what is asked."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MARGIN = 60
"""s: so long before its limit a task is told to stop at a checkpoint."""

_TEMPLATES = Path(__file__).with_name("jobs")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that a batch system is to do.

    name, partition, account: letters, digits and the like, since a directive cannot quote.
    command: what starts mcsim. scenario: its canonical text. directory: of the script, the
    scenario, the shards and the logs; absolute, as output and cache. tasks: of the array, each of
    which does every so many-th shard. restarts: how often one that stopped at a checkpoint goes
    on. memory: as 4G. seconds: limit of a task. checkpoint_every,
    force: as of `mcsim run`.
    """

    name: str
    command: tuple[str, ...]
    scenario: str
    output: Path
    directory: Path
    shards: int
    tasks: int
    cpus: int
    restarts: int
    memory: str | None = None
    seconds: int | None = None
    partition: str | None = None
    account: str | None = None
    cache: Path | None = None
    checkpoint_every: float = 60.0
    force: bool = False

    @property
    def about(self) -> str:
        """What is done, in words."""
        if self.shards == 1:
            return f"{self.name}, in one task"
        return f"{self.name}, {self.shards} shards in {self.tasks} tasks"

    @property
    def limit(self) -> str | None:
        """The limit as HH:MM:SS."""
        if self.seconds is None:
            return None
        minutes, seconds = divmod(self.seconds, 60)
        return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def slurm(job: Job) -> str:
    """The script for Slurm."""
    shared = _given(
        {
            "--mem=": job.memory,
            "--time=": job.limit,
            "--partition=": job.partition,
            "--account=": job.account,
        }
    )
    array = job.shards > 1
    directives = [
        f"--job-name={job.name}",
        *([f"--array=1-{job.tasks}"] if array else []),
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={job.cpus}",
        *shared,
        "--requeue",
        f"--signal=USR1@{MARGIN}",
        "--open-mode=append",
        f"--output={'task-%a.log' if array else 'task.log'}",
    ]
    return _filled(job, "slurm", "SBATCH", directives, [f"--job-name={job.name}-merge", *shared])


def pbs(job: Job) -> str:
    """The script for OpenPBS and PBS Professional."""
    memory = "" if job.memory is None else f":mem={job.memory.lower()}b"
    shared = _given({"-l walltime=": job.limit, "-q ": job.partition, "-A ": job.account})
    directives = [
        f"-N {job.name}",
        *([f"-J 1-{job.tasks}"] if job.shards > 1 else []),
        f"-l select=1:ncpus={job.cpus}{memory}",
        *shared,
        "-r y",
        "-j oe",
    ]
    merge = [f"-N {job.name}-merge", f"-l select=1:ncpus=1{memory}", *shared]
    return _filled(job, "pbs", "PBS", directives, merge)


def _given(options: Mapping[str, str | None]) -> list[str]:
    return [f"{option}{value}" for option, value in options.items() if value is not None]


def _filled(job: Job, template: str, prefix: str, directives: list[str], merge: list[str]) -> str:
    options = ["--resume", f"--checkpoint-every {job.checkpoint_every:g}"]
    options += ["--force"] if job.force else []
    values = {
        "mcsim": f"({shlex.join(job.command)})",
        "options": f"({' '.join(options)})",
        "directory": shlex.quote(str(job.directory)),
        "output": shlex.quote(str(job.output)),
        "cache": "" if job.cache is None else shlex.quote(str(job.cache)),
        "about": shlex.quote(job.about),
        "shards": str(job.shards),
        "tasks": str(job.tasks),
        "restarts": str(job.restarts),
        "file": '$(realpath -- "$0")',
    }
    places = {
        "about": job.about,
        "directives": "\n".join(f"#{prefix} {directive}" for directive in directives),
        "values": "\n".join(
            ["set -euo pipefail", "", *(f"{name}={value}" for name, value in values.items())]
        ),
        "merge": " ".join(merge),
        "cpus": str(job.cpus),
        "margin": str(MARGIN),
        "seconds": "0" if job.seconds is None else str(job.seconds - MARGIN),
        "scenario": job.scenario.rstrip("\n"),
        "end": _delimiter(job.scenario),
    }
    text = "".join((_TEMPLATES / f"{part}.sh").read_text("utf-8") for part in (template, "common"))
    return re.sub(r"@([a-z]+)@", lambda place: places[place[1]], text)


def _delimiter(text: str) -> str:
    """A word that ends a here-document, since no line of the text begins with it."""
    word = "END_OF_SCENARIO"
    while any(line.startswith(word) for line in text.splitlines()):
        word += "_"
    return word
