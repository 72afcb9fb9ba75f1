"""The way of the data, in three calls: load, run, open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from mcsim.errors import Problem
from mcsim.scenario import Scenario, load_scenario, parse_scenario
from mcsim.signature import is_netcdf

if TYPE_CHECKING:
    import xarray as xr

    from mcsim.model.step_law import StepLaw


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
    executor: Executor | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    target: str = "auto",
) -> xr.Dataset:
    """Simulate a scenario (or what `load` finds under that name) and label the result.

    executor: whose workers sample, of concurrent.futures, Dask or mpi4py; default: threads of this
    process. threads: of each worker, default 1; without an executor, default all that are
    available. The result does not depend on either.
    progress: called with the steps done and the steps asked for. target: "cpu", "cuda", or "auto",
    which is what the scenario says, or a GPU where there is one and enough to do.
    Raises ScenarioError, SimulationError where times overflow, TargetError where the GPU is not
    there or fails, and WorkersError where workers are lost again and again. Warns with
    SelfCheckWarning where the two engines disagree.
    """
    from mcsim.batch import advance
    from mcsim.results import label

    if not isinstance(scenario, Scenario):
        scenario = load(scenario)
    return label(
        advance(scenario, executor=executor, threads=threads, progress=progress, target=target)
    )


def merge(
    paths: Sequence[str | Path], output: str | Path | None = None, *, partial: bool = False
) -> xr.Dataset:
    """The result of a run, or a sweep, whose parts are in files, in any order, as `mcsim merge`.

    output: a file for it, which may be merged, or gone on from, as its parts. partial: whether some
    may be missing. Raises ResultError, with the names of the files, for one that is damaged, is of
    another run or holds steps that another holds; and for missing steps.
    """
    from mcsim.batch import merge as joined
    from mcsim.results import check_output, is_part_of_sweep, label, only_writer, write

    if isinstance(paths, str):
        raise TypeError(f"paths is the one name {paths!r}; give a list of names")
    files = [Path(path) for path in paths]
    if files and is_part_of_sweep(files[0]):
        from mcsim.study.sweep import merged

        return merged(files, None if output is None else Path(output), partial=partial)
    if output is None:
        return label(joined(files, partial=partial))
    check_output(Path(output))
    with only_writer(Path(output)):
        whole = joined(files, partial=partial)
        dataset = label(whole)
        write(dataset, output, whole)
    return dataset


def explain(
    scenario: Scenario | str | Path,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """What each cause of lost time costs in a scenario (or what `load` finds under that name).

    The same clusters and steps are sampled with every set of causes. Result: over `cause`, in s of
    a step, `shapley_time` (which add up to the whole loss), `alone_time` and `removed_time`, each
    with `overall_...` and its standard error. threads: default all that are available. progress:
    called with the tasks done and all tasks.
    Raises ScenarioError, also for what cannot be taken apart, and SimulationError.
    """
    from mcsim.study import explain as explained

    if not isinstance(scenario, Scenario):
        scenario = load(scenario)
    return explained(scenario, threads=threads, progress=progress)


def compare(
    scenario: Scenario | str | Path,
    remedies: Sequence[str] | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """What each remedy returns in a scenario (or what `load` finds under that name).

    remedies: names of `mcsim list remedies`, several joined by "+", or new values of keys as
    "sync.policy=local-sgd;sync.inner_steps=4"; default: all that apply. The same clusters and steps
    are sampled with each. Result: over `remedy`, whose first is the scenario as it is: step time,
    throughput, effective GPUs, `gain` and `recovered` with errors of pairs. threads: default all
    that are available. progress: called with the remedies done and all.
    Raises ScenarioError, also for a remedy that does not apply, and SimulationError.
    """
    from mcsim.study import compare as compared

    if isinstance(remedies, str):
        raise TypeError(f"remedies is the one name {remedies!r}; give a list of names")
    if not all(isinstance(name, str) for name in remedies or ()):
        raise TypeError("remedies are names, or new values of keys as text")
    if not isinstance(scenario, Scenario):
        scenario = load(scenario)
    return compared(scenario, remedies, threads=threads, progress=progress)


def sweep(
    scenario: Scenario | str | Path,
    over: Mapping[str, str | Sequence[object]],
    *,
    method: str = "grid",
    points: int | None = None,
    indices: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """The estimates of a scenario's runs with other values of some keys, on the same clusters.

    over: by key path (`link[*].bandwidth` for all links at once) the values, as a file has them, or
    text: `1,2,5`, or of numbers `1..9/5` (five values) and `1..100/5,log`. method: "grid", whose
    dimensions are named after the keys (`run_steps`); "lhs" (Latin hypercube) or "sobol", which
    spread so many `points` over ranges `1..9`. indices: estimate Sobol indices, by `points` times
    two more runs than keys (extra `salib`). progress: called with the steps done and all steps.
    Result: `overall_...` and their errors over the keys, of each point with the bits of `run`.
    Raises ScenarioError with all that is wrong with any point, before the first is run.
    """
    from mcsim.study import sweep as swept

    if not isinstance(over, Mapping):
        raise TypeError(f"over is {over!r}; give the values of keys, as {{'run.steps': [1, 2]}}")
    if not isinstance(scenario, Scenario):
        scenario = load(scenario)
    return swept(
        scenario,
        over,
        method=method,
        points=points,
        indices=indices,
        threads=threads,
        progress=progress,
    )


def find(
    scenario: Scenario | str | Path,
    key: str,
    over: str,
    reach: str,
    target: str | float,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """The value of a key at which a statistic reaches a target, with its uncertainty.

    over: the range to look in, as `100Gb/s..10Tb/s`, in which the statistic rises or falls
    throughout. reach, target: as "efficiency", 0.5. All values are tried on the same clusters and
    random numbers. Result: `value`, `value_stderr`, the 95 % interval `value_low` to `value_high`,
    and what was tried; of whole numbers the least or largest that reaches the target.
    Raises ScenarioError, and SimulationError where the target is not reached between the ends.
    """
    from mcsim.study.find import find as found

    if not isinstance(scenario, Scenario):
        scenario = load(scenario)
    return found(scenario, key, over, reach, target, threads=threads, progress=progress)


def verdict(
    scenario: Scenario | str | Path,
    *,
    trained: xr.Dataset | None = None,
    remedies: Sequence[str] = (),
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Training or inference: the fleet of a scenario as a synchronous trainer and as a service.

    trained: the scenario's result, if there is one; default: it is run. Result: over `use`, what is
    kept of the capacity, wasted GPU hours, power, tokens and money, with standard errors; over
    `group`, the replicas that serve; over `remedy`, what the given remedies, as of `compare`,
    change in training. threads: default all that are available. progress: called with the drawn
    clusters that serve, and all of them; where it is run, first with the steps.
    Raises ScenarioError, also for devices of which memory, bandwidth or power are not known, and
    what `run` raises; ValueError for another scenario's result.
    """
    from mcsim.study import verdict as judged

    if not isinstance(scenario, Scenario):
        scenario = load(scenario)
    if trained is None:
        trained = run(scenario, threads=threads, progress=progress)
    elif trained.attrs["scenario_hash"] != scenario.hash:
        raise ValueError(f"trained is the result of another scenario than {scenario.name}")
    found = judged(scenario, trained, threads=threads, progress=progress)
    if not remedies:
        return found
    from mcsim.results import with_remedies

    return with_remedies(found, compare(scenario, remedies, threads=threads, progress=progress))


def law(scenario: Scenario | str | Path, *, replicate: int | None = None) -> StepLaw:
    """The distribution of the step time, without any sampling of steps.

    replicate: of that cluster; default: over all of the scenario's clusters, each as likely.
    The result has `quantile`, `mean`, `std`, `density`, `distribution` and `survival`.
    Raises ScenarioError where the law cannot be tabulated, with the reason.
    """
    from mcsim.engine import step_law
    from mcsim.model import lower
    from mcsim.model.maximum import NotExact

    if not isinstance(scenario, Scenario):
        scenario = load(scenario)
    plan = lower(scenario)
    if replicate is not None and replicate not in range(plan.replicates):
        raise ValueError(
            f"replicate must be one of the scenario's, 0 to {plan.replicates - 1}, not {replicate}"
        )
    try:
        return step_law(plan, range(plan.replicates) if replicate is None else [replicate])
    except NotExact as impossible:
        message = f"the law of the last arrival cannot be tabulated: {impossible}"
        raise scenario.error([Problem("", message)]) from None


def open(path: str | Path) -> xr.Dataset:
    """A result file as a Dataset, read lazily; use it in a `with`. Raises ResultError."""
    from mcsim.results import open_result

    return open_result(Path(path))


def report(paths: Sequence[str | Path], output: str | Path) -> None:
    """One page of HTML of some results, which needs nothing else, not even a network.

    Of each, in the order given: summary, picture, estimates with units, scenario and provenance.
    output: a file that ends in .html. Raises ResultError, also where matplotlib is missing.
    """
    from mcsim.results.report import write_report

    if isinstance(paths, str):
        raise TypeError(f"paths is the one name {paths!r}; give a list of names")
    write_report([Path(path) for path in paths], Path(output))


def warm_up() -> tuple[int, Path | None]:
    """Compile all kernels that runs need, or load them from the cache.

    Result: their number, and the directory that keeps them; None where none can be written.
    """
    from mcsim.engine.compile import cache_directory
    from mcsim.engine.warmup import warm_up as compile_all

    return compile_all(), cache_directory()


def _is_result(path: Path) -> bool:
    try:
        return is_netcdf(path)
    except (OSError, ValueError):
        # A ValueError where the name cannot be a file's, which the loader says better.
        return False
