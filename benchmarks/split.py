"""What a run gains that is divided among processes: `python -m benchmarks.split [SECONDS]`.

The same run, on one thread and on two processes, in turns; SECONDS of work, default 60 (three
times; longer ones once).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.processes import ROOT

_PROCESSES = 2
_ROUNDS = 3
_LONG = 300.0
"""Seconds beyond which once is enough: what disturbs a run is short."""
_STEPS_A_SECOND = 45_000
"""Of colossus-1 on one thread, about."""


def main() -> None:
    wanted = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    steps = int(wanted * _STEPS_A_SECOND)
    alone, shared = [], []
    for _ in range(_ROUNDS if wanted < _LONG else 1):
        alone.append(_seconds(steps, "--threads", "1"))
        shared.append(_seconds(steps, "--executor", "processes", "--workers", str(_PROCESSES)))
        print(f"one thread {alone[-1]:.1f} s, {_PROCESSES} processes {shared[-1]:.1f} s")
    ratio = _PROCESSES * statistics.median(shared) / statistics.median(alone)
    print(f"{ratio:.2f} times the {_PROCESSES}th part of the run on one thread")


def _seconds(steps: int, *options: str) -> float:
    change = ["--set", f"run.steps={steps}", "--set", "run.replicates=1", "--engine", "sampled"]
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "mcsim", "run", "colossus-1", *change, *options],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
