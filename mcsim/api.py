"""The way of the data, in three calls: load, run, open."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mcsim.scenario import Scenario, load_scenario, parse_scenario
from mcsim.signature import is_netcdf

if TYPE_CHECKING:
    import xarray as xr


def load(where: str | Path, settings: Mapping[str, str] | None = None) -> Scenario:
    """The scenario in a file, of a bundled name, on standard input (`-`), or of a result.

    settings: new values by key path, as text: {"run.steps": "100", "workload.compute": "2 s"}.
    Raises ScenarioError with every problem there is; ResultError for a damaged result.
    """
    path = Path(where)
    if not _is_result(path):
        return load_scenario(where, settings)
    from mcsim.results import stored_scenario

    return parse_scenario(stored_scenario(path), path.name, path.parent, settings)


def run(
    scenario: Scenario | str | Path,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Simulate a scenario (or what `load` finds under that name) and label the result.

    threads: default all that are available; the result does not depend on it.
    progress: called with the steps done and the steps asked for.
    Raises ScenarioError, and SimulationError where times overflow.
    """
    from mcsim.engine import simulate
    from mcsim.model import lower
    from mcsim.results import Cost, label
    from mcsim.threads import available_threads

    if not isinstance(scenario, Scenario):
        scenario = load(scenario)
    threads = available_threads() if threads is None else threads
    wall, cpu = time.perf_counter(), time.process_time()
    tally = simulate(lower(scenario), threads=threads, progress=progress)
    cost = Cost("sampled", threads, time.perf_counter() - wall, time.process_time() - cpu)
    return label(tally, scenario, cost)


def open(path: str | Path) -> xr.Dataset:
    """A result file as a Dataset, read lazily; use it in a `with`. Raises ResultError."""
    from mcsim.results import open_result

    return open_result(Path(path))


def _is_result(path: Path) -> bool:
    try:
        return is_netcdf(path)
    except (OSError, ValueError):
        # A ValueError where the name cannot be a file's, which the loader says better.
        return False
