"""What it costs to be able to stop, and to be in pieces: `python -m benchmarks.batch`.

Checkpoints: the same run with one every second, sixty times as often as usual, and with none, in
turns. Merging: shards of a run of several replicates with all step times kept.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import mcsim
from benchmarks.work import Fleet
from mcsim.batch import Shard, advance, merge
from mcsim.results import Checkpoints, label, write

ROUNDS = 7
SHARDS = 64


def checkpoint_share(directory: Path) -> tuple[float, float]:
    """Seconds of a run without checkpoints, and how many times longer it takes with them."""
    asked = Fleet(220_000).scenario(500_000).replace({"run.engine": "sampled"})
    taken: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(ROUNDS):
        for saves in (True, False):
            checkpoints = Checkpoints(directory / "run.nc")
            last = start = time.perf_counter()

            def watch(done, saves=saves, checkpoints=checkpoints):
                nonlocal last
                if saves and time.perf_counter() - last > 1.0:
                    checkpoints.save(done())
                    last = time.perf_counter()

            advance(asked, watch=watch)
            taken[saves].append(time.perf_counter() - start)
    plain, saving = (statistics.median(taken[saves]) for saves in (False, True))
    return plain, saving / plain


def merging(directory: Path) -> float:
    """Seconds to merge shards of 16 clusters of 65,536 steps, all times kept, into a file."""
    asked = mcsim.load("colossus-1").replace(
        {"run.steps": 65_536, "run.replicates": 16, "run.keep": "steps"}
    )
    files = []
    for number in range(1, SHARDS + 1):
        part = advance(asked, shard=Shard(number, SHARDS))
        files.append(directory / f"{number}.nc")
        write(label(part), files[-1], part)
    start = time.perf_counter()
    whole = merge(files[::-1])
    write(label(whole), directory / "whole.nc", whole)
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        plain, ratio = checkpoint_share(Path(directory))
        print(f"220,000 devices x 500,000 steps: {plain:.2f} s, with a checkpoint every second")
        print(f"{ratio:.3f} times as long (medians of {ROUNDS}, in turns)")
        seconds = merging(Path(directory))
        print(f"{SHARDS} shards of a million steps, all kept, merged in {seconds:.2f} s")


if __name__ == "__main__":
    main()
