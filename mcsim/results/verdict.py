"""Both uses of a fleet, training and inference, as one Dataset: each figure with its origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from mcsim.laws import FloatArray
from mcsim.model.economics import Cost
from mcsim.model.serving import Drawn, Service
from mcsim.results.estimates import over_replicates
from mcsim.results.label import provenance_of
from mcsim.results.uses import QUANTITIES, Fleet, Use, amounts
from mcsim.scenario import Scenario

USES = ("training", "inference")


def label_verdict(
    scenario: Scenario,
    run: xr.Dataset,
    fleet: Fleet,
    uses: tuple[Use, Use, Use],
    service: Service,
    drawn: Drawn,
) -> xr.Dataset:
    """The Dataset of a verdict.

    run: the result as a trainer. uses: the trainer, the same with step times a standard error
    longer, and the service. drawn: shape (replicates, pools).
    """
    trainer, longer, serving = (
        amounts(use, fleet, peak)
        for use, peak in zip(
            uses,
            (fleet.peak_in_training, fleet.peak_in_training, fleet.peak_in_inference),
            strict=True,
        )
    )
    laws = ("persistent", "node", "rack", "site_factor")
    lottery = any(getattr(pool.group, law) is not None for pool in service.pools for law in laws)
    certain = {"demand", "headroom_gpus"}
    if fleet.cost is not None and not fleet.cost.kilowatt_hour:
        certain.add("cost_a_month")
    variables: dict[str, xr.Variable] = {}
    for name in trainer:
        within = np.abs(longer[name] - trainer[name])
        # Given the cluster, expectations are exact; one says nothing of others.
        known = not lottery or within.size > 1 or name in certain
        alone = np.full_like(within, 0.0 if known else np.nan)
        both = (_estimate(trainer[name], within), _estimate(serving[name], alone))
        variables |= _quantity(name, both, fleet.cost)
    variables["full_power"] = xr.Variable(
        (),
        fleet.draw.watts.sum() / 1e6,
        {
            "units": "MW",
            "long_name": "power of the fleet while all devices compute",
            "follows_from": "; ".join(fleet.draw.sources),
        },
    )
    variables |= _of_training(run)
    variables |= _of_service(service, drawn)
    variables |= _told(scenario, fleet, trainer)
    attrs = provenance_of(scenario, "Training or inference", "judged")
    group = ("group", "group_site", "group_device", "group_devices")
    coordinates = {name: run[name].variable.load() for name in (*group, "component")}
    coordinates["use"] = xr.Variable(
        ("use",), list(USES), {"units": "1", "long_name": "what the fleet is used for"}
    )
    more: dict[str, object] = {
        "completeness": "complete",
        "devices": np.int64(fleet.devices),
        "steps_done": np.int64(run.attrs["steps_done"]),
        "replicates_done": np.int64(run.sizes["replicate"]),
        "figures": "\n".join(
            f"{name} = {known.value:g}: {known.source}" for name, known in service.known.items()
        ),
        "power_figures": "; ".join(fleet.draw.sources),
        "statistical_efficiency": np.float64(scenario.sync.statistical_efficiency or 1.0),
    }
    if fleet.cost is not None:
        more |= {"currency": fleet.cost.currency, "price_figures": fleet.cost.source}
    if scenario.verdict is not None and scenario.verdict.source is not None:
        more["public_source"] = scenario.verdict.source
    return xr.Dataset(variables, coordinates, attrs | more)


def _estimate(values: FloatArray, within: FloatArray) -> tuple[float, float]:
    """The mean over the clusters and its standard error. within: of each, by its steps."""
    mean, error = over_replicates(values, within)
    return float(mean), float(error)


def _quantity(
    name: str, both: Sequence[tuple[float, float]], cost: Cost | None
) -> dict[str, xr.Variable]:
    said = QUANTITIES[name]
    attrs = {
        "units": said.units,
        "long_name": said.long_name,
        "ancillary_variables": f"{name}_stderr",
        "follows_from": f"training: {said.training}; inference: {said.inference}",
    }
    if "cost" in name and cost is not None:
        attrs |= {"currency": cost.currency, "prices": cost.source}
    error = {"units": said.units, "long_name": f"standard error: {said.long_name}"}
    value, stderr = np.array(both).T
    return {
        name: xr.Variable(("use",), value, attrs),
        f"{name}_stderr": xr.Variable(("use",), stderr, error),
    }


def _of_training(run: xr.Dataset) -> dict[str, xr.Variable]:
    """What the run says of a step, by the same names."""
    estimates = [
        f"overall_{name}{end}"
        for name in ("step_time_mean", "component_time_mean", "wait_fraction")
        for end in ("", "_stderr")
    ]
    names = ("ideal_step_time", "undisturbed_step_time", *estimates)
    found = {name: run[name].variable.load() for name in names}
    mixing = float(run.ideal_step_time / run.undisturbed_step_time)
    found["mixing_efficiency"] = xr.Variable(
        (),
        mixing,
        {
            "units": "1",
            "long_name": "efficiency if equal work on unequal devices were all that is lost",
            "follows_from": "ideal_step_time / undisturbed_step_time (workload.compute, fleet)",
        },
    )
    return found


def _of_service(service: Service, drawn: Drawn) -> dict[str, xr.Variable]:
    """What each group's replicas are and do; means over the clusters."""
    pools, served = service.pools, service.served
    keys = "inference, catalogue devices.toml, network"
    of_groups: dict[str, tuple[str, str, object]] = {
        "replicas": ("1", "replicas of the served model", [pool.replicas for pool in pools]),
        "devices_per_replica": (
            "1",
            "devices that serve together",
            [pool.replica.devices for pool in pools],
        ),
        "batch": ("1", "requests that a replica answers at a time", [p.batch for p in pools]),
        "request_capacity": (
            "s-1",
            "requests that the group can answer",
            drawn.capacity.mean(axis=0),
        ),
        "ideal_request_capacity": (
            "s-1",
            "requests that undisturbed devices with a free network could answer",
            [pool.ideal for pool in pools],
        ),
        "replica_slowdown": (
            "1",
            "by which replicas are slower for the slowest of their devices",
            drawn.factor.mean(axis=0),
        ),
        "request_latency": ("s", "mean time of a request, waiting included", drawn.latency),
        "first_token_latency": ("s", "mean time until the first token", drawn.first_token),
        "slowest_latency": ("s", "mean time of a request in the slowest replica", drawn.slowest),
        "queue_wait": ("s", "mean wait for a place in any of the group's replicas", drawn.wait),
        "queue_wait_at_random": (
            "s",
            "mean wait for a place where replicas are chosen at random",
            drawn.wait_at_random,
        ),
    }
    variables = {}
    for name, (units, long_name, values) in of_groups.items():
        array = np.asarray(values)
        array = array.mean(axis=0) if array.ndim == 2 else array
        attrs = {"units": units, "long_name": long_name, "follows_from": keys}
        variables[name] = xr.Variable(("group",), array, attrs)
    ideal, whole, exchanging = service.ideal, service.whole, service.exchanging
    answering = float(drawn.capacity.sum(axis=1).mean())
    parts = {
        "serving_left_over": ((ideal - whole) / ideal, "devices that no replica takes"),
        "serving_exchange": ((whole - exchanging) / ideal, "collectives inside replicas"),
        "serving_lockstep": (
            (exchanging - answering) / ideal,
            "slow devices, jitter and stalls, that replicas wait for",
        ),
    }
    for name, (share, what) in parts.items():
        attrs = {
            "units": "1",
            "long_name": f"share of the ideal capacity of the service that is lost to {what}",
            "follows_from": f"{keys}, jitter",
        }
        variables[name] = xr.Variable((), share, attrs)
    for name, tokens in (("prompt", served.prompt), ("output", served.output)):
        attrs = {
            "units": "s-1",
            "long_name": f"tokens of {name}s that the service handles",
            "follows_from": f"inference.utilisation x requests a second x inference.{name}",
        }
        rate = service.load * answering * tokens
        variables[f"{name}_tokens_per_second"] = xr.Variable((), rate, attrs)
    return variables


def _told(
    scenario: Scenario, fleet: Fleet, trainer: Mapping[str, FloatArray]
) -> dict[str, xr.Variable]:
    """The share of the peak that is told of, and that devices reach while they compute."""
    found = {}
    told = scenario.verdict.public_utilisation if scenario.verdict else None
    if told is not None:
        found["public_utilisation"] = (told, "share of the peak that is said to be used", "verdict")
    computing = float((trainer["mfu"] / trainer["efficiency"]).mean())
    if np.isfinite(computing):
        found["computing_utilisation"] = (
            computing,
            "share of the fleet's peak that an undisturbed step would use",
            "mfu / efficiency: workload.model.mfu or verdict.mfu, and fleet.efficiency",
        )
    return {
        name: xr.Variable((), value, {"units": "1", "long_name": what, "follows_from": source})
        for name, (value, what, source) in found.items()
    }
