"""Training or inference: the same fleet, drawn from the same lottery, put to both uses."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import xarray as xr

from mcsim import catalogue
from mcsim.engine import base_times
from mcsim.errors import Problem
from mcsim.laws import FloatArray
from mcsim.model import Plan, lower
from mcsim.model.dividing import training_of
from mcsim.model.economics import Activity, cost_of, draw_of
from mcsim.model.replicas import service_of
from mcsim.model.served import precision_of
from mcsim.model.serving import Drawn, Service
from mcsim.results import Fleet, Use, label_verdict
from mcsim.scenario import Scenario
from mcsim.threads import available_threads


def verdict(
    scenario: Scenario,
    run: xr.Dataset,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """The fleet as a trainer and as a service, side by side: a Dataset over `use`.

    run: the scenario's result as a trainer. progress: called with the clusters drawn and all.
    Raises ScenarioError where it is not known how a device serves, or what it costs.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    plan = replace(lower(scenario), replicates=run.sizes["replicate"])
    if plan.remedies is not None and plan.remedies.leaves_out:
        message = "a verdict is of all devices; ask for drop_... and spares by --remedy"
        raise scenario.error([Problem("remedy", message)])
    # A service knows no rounds: its passes are as disturbed as single steps. Nor does it leave out
    # anybody, or share out the work of a step.
    plain = scenario.replace({"sync": None, "remedy": None})
    alone = replace(lower(plain), replicates=plan.replicates)
    service, draw, cost = service_of(scenario, alone), draw_of(scenario), cost_of(scenario)
    drawn = _served(alone, service, threads or available_threads(), progress)
    step, error = (run[f"step_time_mean{end}"].to_numpy() for end in ("", "_stderr"))
    busy = run.device_time_mean.to_numpy()
    tokens, operations = work_of(scenario, service)
    kept = _kept(run, plan.ideal_step_time / step)
    training, longer = (
        training_use(plan, time, kept, busy, tokens, operations) for time in (step, step + error)
    )
    inference = inference_use(service, drawn)
    fleet = Fleet(
        devices=plan.devices,
        peak_in_training=_peak(scenario, scenario.workload.precision),
        peak_in_inference=_peak(scenario, precision_of(scenario)[0]),
        draw=draw,
        cost=cost,
    )
    return label_verdict(scenario, run, fleet, (training, longer, inference), service, drawn)


def training_use(
    plan: Plan,
    step_time: FloatArray,
    kept: FloatArray,
    busy: FloatArray,
    tokens: float,
    operations: float,
) -> Use:
    """A trainer, by what a step of it takes: of the run, or of any remedy for it.

    step_time: shape (replicates,), s, of a step or a round. kept: shape (replicates,), what counts
    of its work. busy: shape (replicates, groups), s of
    it that a device computes. tokens, operations: of it; not a number where they are not known.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        efficiency = kept * np.minimum(plan.ideal_step_time / step_time, 1.0)
        computing = np.clip(busy / step_time[:, None], 0.0, 1.0)
        return Use(
            efficiency=efficiency,
            load=1.0,
            activity=Activity(computing, np.zeros_like(computing), 1.0 - computing),
            tokens=kept * tokens / step_time,
            operations=kept * operations / step_time,
        )


def _kept(run: xr.Dataset, speed: FloatArray) -> FloatArray:
    """What counts of the work of steps: of devices at work, and of samples that are not lost.

    speed: the ideal over the mean step time. Shape (replicates,).
    """
    efficiency = run.efficiency.to_numpy()
    with np.errstate(invalid="ignore"):
        return np.where(efficiency < 1.0, np.minimum(efficiency / speed, 1.0), 1.0)


def inference_use(service: Service, drawn: Drawn) -> Use:
    """A service, by what the pools of the drawn clusters answer; drawn: (replicates, pools)."""
    capacity, load, served = drawn.capacity, service.load, service.served
    ideal = np.array([pool.ideal for pool in service.pools])
    reading = np.array([pool.reading for pool in service.pools])
    taking_part = np.array([pool.taking_part for pool in service.pools])
    useful = load * capacity / ideal
    requests = load * capacity.sum(axis=1)
    prompt = served.prompt * served.operations(served.prompt)
    return Use(
        # As in training: a lucky draw of specimens is faster, but uses no more devices.
        efficiency=np.minimum(capacity.sum(axis=1) / service.ideal, 1.0),
        load=load,
        activity=Activity(
            useful * (1.0 - reading), useful * reading, np.maximum(load * taking_part - useful, 0.0)
        ),
        tokens=requests * (served.prompt + served.output),
        operations=requests * (prompt + served.output * served.operations(served.context)),
    )


def work_of(scenario: Scenario, service: Service) -> tuple[float, float]:
    """Tokens and operations of a step, or of a round, of all devices.

    By the model, or by what the reference device does in the time that is given: compute x peak x
    verdict.mfu, 6 operations a token and active parameter. Not a number where neither is known.
    """
    inner, training = scenario.sync.steps_a_round, training_of(scenario)
    if training is not None:
        tokens = float(inner * training.model.batch)
        return tokens, tokens * training.operations_per_token
    told, workload = scenario.verdict, scenario.workload
    if told is None or told.mfu is None or workload.compute is None or workload.reference is None:
        return np.nan, np.nan
    peak = catalogue.device(workload.reference).peak[workload.precision]
    devices = sum(fleet.count for fleet in scenario.fleet)
    operations = inner * devices * workload.compute * peak * told.mfu
    return operations / (6.0 * service.served.active), operations


def _served(
    plan: Plan, service: Service, threads: int, progress: Callable[[int, int], None] | None
) -> Drawn:
    """What the clusters serve, shape (replicates, pools)."""

    def one(replicate: int) -> Drawn:
        return service.drawn(plan, base_times(plan, replicate))

    found: list[Drawn] = []
    with ThreadPoolExecutor(threads, "mcsim") as pool:
        try:
            for drawn in pool.map(one, range(plan.replicates)):
                found.append(drawn)
                if progress is not None:
                    progress(len(found), plan.replicates)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return Drawn.stacked(found)


def _peak(scenario: Scenario, precision: str) -> float:
    """Operations a second of all devices."""
    return sum(
        fleet.count * catalogue.device(fleet.device).peak[precision] for fleet in scenario.fleet
    )
