"""The CUDA target in Numba's simulator, beside the processor: `python simulated.py`.

In a process of its own, as Numba decides at import whether it simulates. Prints what differs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from oracle import scenario

import mcsim
from mcsim.batch import Shard, advance
from mcsim.engine import cuda as kernels
from mcsim.engine.engines import engine_of
from mcsim.model import lower

# Each is a thread of the processor here.
kernels.THREADS = 16
KERNELS = ("find_rare", "screen", "score", "hand_back", "count_devices")
launched: dict[str, set[tuple[str, ...]]] = {name: set() for name in KERNELS}


def type_of(value: object) -> str:
    """As Numba calls it where it compiles."""
    kind = getattr(value, "dtype", None)
    if getattr(value, "ndim", 0):
        return f"array({kind}, {value.ndim}d, C)"
    return {"bool": "bool"}.get(type(value).__name__, str(kind))


class Recorded:
    """A kernel that remembers the types of what it is launched with."""

    def __init__(self, name: str) -> None:
        self._name, self._kernel = name, getattr(kernels, name)

    def __getitem__(self, grid: tuple[object, ...]):
        def launch(*arguments: object) -> None:
            launched[self._name].add(tuple(map(type_of, arguments)))
            self._kernel[grid](*arguments)

        return launch


for name in KERNELS:
    setattr(kernels, name, Recorded(name))

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}
STALL = {"law": "exponential", "mean": 0.05}
SLOW = {"every": 300.0, "duration": 40.0, "factor": {"law": "constant", "value": 1.4}}
JUMPS = {
    "law": "mixture",
    "parts": [{"weight": 0.97, **LOGNORMAL}, {"weight": 0.03, "law": "constant", "value": 1.3}],
}
HEAVY = {"law": "pareto", "scale": 1, "alpha": 1.5}
PLAIN = {"count": 100, "jitter": {"persistent": LOGNORMAL, "step": LOGNORMAL}}
CASES = {
    "plain": [PLAIN],
    "stalls": [{"count": 100, "jitter": {"step": LOGNORMAL, "stall": STALL}}],
    "atoms": [{"count": 100, "jitter": {"step": JUMPS}}],
    "heavy": [{"count": 90, "jitter": {"persistent": LOGNORMAL, "step": HEAVY}}],
    "constant": [{"count": 40}],
    "negative": [{"count": 90, "jitter": {"step": {"law": "normal", "mean": 0, "sd": 1}}}],
    "states": [{"count": 90, "jitter": {"step": LOGNORMAL, "slow": SLOW, "correlation": 0.5}}],
    "groups": [PLAIN, {"name": "b", "count": 70, "jitter": {"step": LOGNORMAL}}],
}
COUNTED = ("stalls", "atoms")
STEPS = 16


def plan_of(case: str, **run: object):
    asked = scenario(*CASES[case], steps=STEPS, replicates=1)
    changes = {"run.engine": "sampled"} | {f"run.{key}": value for key, value in run.items()}
    return lower(asked.replace(changes))


def differences(case: str) -> dict[str, object]:
    """Largest differences between the targets, and between two divisions of the steps."""
    plan = plan_of(case, keep="devices" if case in COUNTED else "summary")
    here, there = (engine_of("sampled", plan, target).draw(0) for target in ("cpu", "cuda"))
    one, other = here.sample(0, STEPS), there.sample(0, STEPS)
    same = [
        name
        for name in ("time", "ready", "culprit", "draw", "device")
        if np.array_equal(getattr(one, name), getattr(other, name))
    ]
    found = {"same": same, "busy": float(np.max(np.abs(other.busy / one.busy - 1)))}
    first, second = there.sample(0, 7), there.sample(7, STEPS - 7)
    found["divided"] = bool(np.array_equal(first.joined(second).busy, other.busy))
    if one.devices is not None:
        moved = [np.abs(a - b).sum() // 2 for a, b in zip(*map(_counts, (one, other)), strict=True)]
        found["moved"] = [int(number) for number in moved]
        found["counted"] = int(other.devices.times.sum())
    return found


def _counts(steps):
    return steps.devices.times, steps.devices.waits


def targets_mixed() -> dict[str, object]:
    """Shards of both targets are one run, and a checkpoint of one goes on on the other.

    On one thread: the simulator knows one kernel at a time.
    """
    asked = scenario(*CASES["plain"], steps=2_000, replicates=1).replace({"run.engine": "sampled"})
    asked = asked.replace({"run.steps": STEPS, "run.replicates": 2, "run.keep": "steps"})
    plain = mcsim.run(asked, target="cpu")
    parts = [
        advance(asked, shard=Shard(number, 2), target=target, threads=1)
        for number, target in ((1, "cuda"), (2, "cpu"))
    ]
    joined = parts[0].joined(parts[1])
    shorter = advance(asked.replace({"run.replicates": 1}), target="cuda", threads=1)
    longer = advance(asked, earlier=shorter, target="cpu")
    times = [mcsim.results.label(part).step_time.to_numpy() for part in (joined, longer)]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "x.toml"
        file.write_text(asked.replace({"run.target": "cuda"}).to_toml())
        of_file = mcsim.run(file, threads=1)
    return {
        "same": [bool(np.array_equal(one, plain.step_time)) for one in times],
        "targets": [joined.cost.targets, longer.cost.targets, of_file.attrs["target"]],
        "hash": of_file.attrs["scenario_hash"] == plain.attrs["scenario_hash"],
    }


if __name__ == "__main__":
    # Words wrap around, which NumPy's scalars remark upon, and the lanes are scalars here.
    np.seterr(over="ignore")
    found = {case: differences(case) for case in CASES}
    found["mixed"] = targets_mixed()
    found["types"] = {name: sorted(types) for name, types in launched.items()}
    sys.stdout.write(json.dumps(found))
