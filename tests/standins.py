"""Stand-ins for batch systems: each does at once what the real one would do later."""

from __future__ import annotations

import os
from pathlib import Path

# Each notes its arguments first. What its jobs print goes to the file `output`, and of those that
# fail the exit codes to `failed`.
_BEGINNING = """\
#!/bin/bash
set -euo pipefail
{ printf "%s " "${0##*/}" "${@//$'\\n'/|}"; echo; } >>"$STANDINS/log"
number=$(wc -l <"$STANDINS/log")
script=$STANDINS/script-$number
do_it() {
    "$@" >>"$STANDINS/output" 2>&1 || echo "$number: $?" >>"$STANDINS/failed"
}
"""

SLURM = {
    "sbatch": """\
file=${!#}
if [[ "$file" == --* ]]; then cat; else cat -- "$file"; fi >"$script"
tasks=$(sed -n 's/^#SBATCH --array=1-//p' "$script")
for ((task = 1; task <= ${tasks:-1}; task++)); do
    export SLURM_JOB_ID=$((100 * number + task)) SLURM_CPUS_PER_TASK=1
    if [ -n "$tasks" ]; then
        export SLURM_ARRAY_JOB_ID=$number SLURM_ARRAY_TASK_ID=$task
    fi
    do_it bash "$script"
done
echo "$number;cluster"
""",
    "srun": """\
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
""",
    "scontrol": "",
}

# A further round finds nothing to go on with.
PBS = {
    "qsub": """\
file=${!#}
if [ -f "$file" ]; then cat -- "$file"; else cat; fi >"$script"
tasks=$({ echo "#PBS $*"; cat "$script"; } | sed -n 's/^#PBS -J 1-\\([0-9]*\\).*/\\1/p')
export NCPUS=1 PBS_O_WORKDIR=$PWD
if [[ "$*" != *afterany* ]]; then
    for ((task = 1; task <= ${tasks:-1}; task++)); do
        export PBS_JOBID="$number[$task].server"
        if [ -n "$tasks" ]; then export PBS_ARRAY_INDEX=$task; fi
        do_it bash "$script"
    done
fi
echo "$number[].server"
""",
}

LSF = {
    "bsub": """\
tasks=$(sed -n 's/.*-J [a-z]*\\[1-\\([0-9]*\\)\\].*/\\1/p' <<<"$*")
for ((task = 1; task <= ${tasks:-1}; task++)); do
    export LSB_JOBINDEX=$((tasks ? task : 0)) LSB_JOBINDEX_END=${tasks:-0} LSB_JOBINDEX_STEP=1
    do_it sh -c "${!#}"
done
""",
}

GRID_ENGINE = {
    "qsub": """\
cat >"$script"
tasks=$(sed -n 's/.*-t 1-\\([0-9]*\\).*/\\1/p' <<<"$*")
for ((task = 1; task <= ${tasks:-1}; task++)); do
    export SGE_TASK_ID=undefined SGE_TASK_FIRST=1 SGE_TASK_LAST=$tasks SGE_TASK_STEPSIZE=1
    if [ -n "$tasks" ]; then SGE_TASK_ID=$task; fi
    do_it bash "$script"
done
""",
}


def put(directory: Path, *systems: dict[str, str]) -> None:
    """Write the stand-ins of batch systems into a directory, and an empty log of their calls."""
    (directory / "log").touch()
    for system in systems:
        for name, body in system.items():
            (directory / name).write_text(_BEGINNING + body)
            (directory / name).chmod(0o755)


def environment(directory: Path | None = None) -> dict[str, str]:
    """That of no batch job. directory: of stand-ins, which are then the first to be found."""
    systems = ("SLURM_", "PBS_", "LSB_", "SGE_")
    found = {key: value for key, value in os.environ.items() if not key.startswith(systems)}
    if directory is not None:
        found |= {"PATH": f"{directory}:{found['PATH']}", "STANDINS": str(directory)}
    return found
