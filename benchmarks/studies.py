"""What a comparison of remedies takes: `python -m benchmarks.studies [SCENARIO]`.

`mcsim compare SCENARIO` with all remedies that apply, against one `mcsim run` for each of them, as
one does without it (and which finds no best numbers); and how much narrower pairs on the same
clusters are than clusters of each remedy's own. SCENARIO: default colossus-1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mcsim
from benchmarks.processes import ROOT


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "colossus-1"
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "compared.nc"
        _seconds("run", name, "--set", "run.steps=1", "-o", str(Path(directory) / "warm.nc"))
        compared = _seconds("compare", name, "-o", str(result))
        single = _seconds("run", name, "--engine", "sampled", "-o", str(Path(directory) / "one.nc"))
        with mcsim.open(result) as dataset:
            remedies = dataset.sizes["remedy"] - 1
            ratio = (dataset.gain_unpaired_stderr / dataset.gain_stderr)[1:]
            print(f"{name}: {remedies} remedies in {compared:.0f} s")
            print(f"one run {single:.1f} s: {remedies + 1} of them {(remedies + 1) * single:.0f} s")
            for one in dataset.remedy.to_numpy()[1:]:
                print(f"{one}: pairs {float(ratio.sel(remedy=one)):.1f} times narrower")


def _seconds(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "mcsim", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
