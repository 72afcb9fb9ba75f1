"""Scenarios: read and printed back without loss, equal and hashed by what they mean."""

import dataclasses
import io
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import mcsim
from mcsim.cli import main
from mcsim.errors import ScenarioError
from mcsim.fields import spec_of
from mcsim.laws import LAWS, Law
from mcsim.scenario import Scenario, bundled, parse_scenario
from mcsim.suggest import did_you_mean

# The example of the design, word for word.
DESIGN = """\
name = "three-campus"
[run]
seed = 7                  # 0 .. 2^64-1
steps = 20_000            # per replicate
replicates = 16           # clusters drawn from the lottery
engine = "auto"           # auto | sampled | exact
keep = "summary"          # summary | steps (adds the per-step series)

[workload]
compute = "2.0 s"         # one step on the reference device, undisturbed
reference = "h100-sxm"
precision = "bf16"
gradient = "628 GB"       # all-reduced each step; absent: no collective
overlap = 0.5             # part of the compute that can hide communication

[[site]]
name = "memphis"
[[site]]
name = "southaven"

[[link]]
between = ["memphis", "southaven"]
distance = "16 km"
bandwidth = "800 Gb/s"
delay = { law = "lognormal", median = "20 us", sigma = 0.8 }

[network.node]            # inside the NVLink domain
bandwidth = "450 GB/s"
latency = "1 us"
[network.site]            # between nodes of one site
bandwidth = "50 GB/s"
latency = "5 us"
delay = { law = "empirical", file = "delays.csv", column = "us", unit = "us" }

[[fleet]]
name = "hopper"
device = "h100-sxm"       # from the catalogue; or "custom" with compute = "1 s"
count = 150_000
site = "memphis"
[fleet.jitter]            # or [jitter] at top level for all groups
persistent = { law = "lognormal", mean = 1, cv = 0.02 }
node = { law = "mixture", parts = [ { weight = 0.995, law = "constant", value = 1 }, \
{ weight = 0.005, law = "constant", value = 1.1 } ] }
step = { law = "lognormal", mean = 1, cv = 0.015 }
stall = { law = "exponential", mean = "2 ms" }

[sync]
policy = "bsp"
"""

MINIMAL = """\
name = "minimal"
[[fleet]]
name = "own"
device = "custom"
compute = "1 s"
count = 4
"""

LAW = {"law": "exponential", "mean": 0.25}

# Every key there is, so that each can be changed alone.
SLOW = {"catalogue": "slow-host", "every": "2 d", "duration": "1 h", "factor": LAW}
SHOCKS = {"every": "2 d", "factor": LAW}
DAILY = {"catalogue": "llama-3", "amplitude": 0.01, "peak": "15 h", "period": "12 h"}

JITTER = {
    **dict.fromkeys(("persistent", "node", "rack", "site", "step", "operation", "stall"), LAW),
    "correlation": 0.9,
    **dict.fromkeys(("slow", "slow_node", "slow_rack"), SLOW),
    **dict.fromkeys(("shock", "shock_node", "shock_rack"), SHOCKS),
}

SHARED = {
    "node": ("shared_node", "shared_rack", "shared_site"),
    "site": ("shared_rack", "shared_site"),
}

SHARED = {
    "node": ("shared_node", "shared_rack", "shared_site"),
    "site": ("shared_rack", "shared_site"),
}

FULL = {
    "name": "full",
    "run": {
        "seed": 1,
        "steps": 2,
        "replicates": 3,
        "engine": "sampled",
        "target": "cpu",
        "keep": "steps",
        "target_relative_error": 0.01,
        "target_statistic": "step_time_p50",
        "max_steps": 1_000,
        "max_replicates": 100,
    },
    "workload": {
        "compute": "2 s",
        "reference": "h100-sxm",
        "precision": "bf16",
        "gradient": "1 GB",
        "overlap": 0.25,
        "model": {
            "parameters": 1e9,
            "layers": 24,
            "hidden": 2048,
            "sequence": 2048,
            "batch": 2**20,
            "mfu": 0.5,
            "active_parameters": 5e8,
            "experts": 8,
            "experts_per_token": 2,
            "gradient_precision": "fp32",
            "recompute": "full",
        },
        "parallel": {
            "tensor": 2,
            "pipeline": 2,
            "expert": 2,
            "microbatches": 4,
            "schedule": "interleaved",
            "virtual_stages": 2,
            "backward": 1.5,
            "placement": "explicit",
            "stages": ["own", "own"],
            "zero": 2,
            "buckets": 4,
            "activation": "1 MB",
        },
    },
    "site": [{"name": "a"}, {"name": "b"}, {"name": "c"}],
    "link": [
        {
            "between": ["a", "b"],
            "bandwidth": "1 GB/s",
            "distance": "1 km",
            "route_factor": 1.5,
            "medium": "hollow-core",
            "latency": "1 us",
            "delay": LAW,
            "utilisation": 0.5,
            "queue": "kingman",
            "arrival_cv": 2,
            "service_cv": 0.5,
            "loss": 1e-6,
            "protocol": "tcp",
            "packet": 9000,
            "connections": 16,
            "flap": {"every": "1 day", "duration": "5 s"},
            "lanes": 4,
            "lane_failure": {"every": "1 day", "duration": "5 h"},
            "slow": {"every": "2 d", "duration": "1 h", "factor": LAW},
            "age": "1 yr",
        }
    ],
    "network": {
        level: {
            "bandwidth": "1 GB/s",
            "latency": "1 us",
            "delay": LAW,
            "algorithm": "ring",
            **dict.fromkeys(shared, LAW),
        }
        for level, shared in SHARED.items()
    },
    "jitter": JITTER | {"slow_site": SLOW, "shock_site": SHOCKS, "daily": DAILY},
    "fleet": [
        {
            "name": "own",
            "device": "custom",
            "compute": "1 s",
            "count": 4,
            "site": "a",
            "efficiency": 0.5,
            "devices_per_node": 2,
            "nodes_per_rack": 2,
            "jitter": JITTER,
        }
    ],
    "remedy": {
        "shares": "device",
        "microbatches": 8,
        "most_share": 2,
        "drop_devices": 1,
        "drop_nodes": 1,
        "spares": 0.5,
        "evict_after": "1 h",
        "swap_cost": "1 min",
    },
    "sync": {"policy": "local-sgd", "inner_steps": 2, "statistical_efficiency": 0.5},
    "inference": {
        "parameters": 2e9,
        "active_parameters": 1e9,
        "layers": 10,
        "hidden": 100,
        "cache": "1 kB",
        "precision": "fp8",
        "prompt": 100,
        "output": 10,
        "variation": 0.5,
        "devices_per_replica": 2,
        "batch": 8,
        "utilisation": 0.5,
        "compute_efficiency": 0.5,
        "bandwidth_efficiency": 0.5,
        "memory_share": 0.8,
        "time_per_token": "1 s",
    },
    "power": {"pue": 1.1, "servers": 1.4, "waiting": 0.4, "decode": 0.3, "idle": 0.1},
    "prices": {"currency": "USD", "catalogue": "specialty-clouds-2026", "kilowatt_hour": 0.1},
    "verdict": {"public_utilisation": 0.11, "source": "nobody"},
}

OTHER_LAW = {"law": "exponential", "mean": 0.5}

OTHER = {
    "name": "other",
    "run.seed": 2**64 - 1,
    "run.steps": 3,
    "run.replicates": 4,
    "run.engine": "auto",
    "run.target": "cuda",
    "run.keep": "summary",
    "run.target_relative_error": 0.02,
    "run.target_statistic": "step_time_p99",
    "run.max_steps": 10_000,
    "run.max_replicates": 101,
    "workload.compute": "2.000000000001 s",
    "workload.reference": "h200",
    "workload.precision": "fp8",
    "workload.gradient": None,
    "workload.overlap": 0.5,
    "workload.model.parameters": 2e9,
    "workload.model.layers": 25,
    "workload.model.hidden": 2049,
    "workload.model.sequence": 2049,
    "workload.model.batch": 2**21,
    "workload.model.mfu": 0.4,
    "workload.model.active_parameters": 6e8,
    "workload.model.experts": 16,
    "workload.model.experts_per_token": 3,
    "workload.model.gradient_precision": "bf16",
    "workload.model.kept": 30.0,
    "workload.model.recompute": "selective",
    "workload.parallel.tensor": 4,
    "workload.parallel.pipeline": 4,
    "workload.parallel.expert": 4,
    "workload.parallel.microbatches": 8,
    "workload.parallel.schedule": "1f1b",
    "workload.parallel.virtual_stages": 3,
    "workload.parallel.backward": 2,
    "workload.parallel.placement": "contiguous",
    "workload.parallel.stages": ["own", "other"],
    "workload.parallel.zero": 3,
    "workload.parallel.buckets": 5,
    "workload.parallel.activation": "2 MB",
    "site[2].name": "d",
    "link[0].between": ["a", "c"],
    "link[0].bandwidth": "1 Gb/s",
    "link[0].distance": "1 mi",
    "link[0].route_factor": 1.25,
    "link[0].medium": "silica",
    "link[0].latency": 0,
    "fleet[0].name": "x",
    "fleet[0].device": "h100-sxm",
    "fleet[0].compute": "3 s",
    "fleet[0].count": 5,
    "fleet[0].site": "b",
    "fleet[0].efficiency": 0.75,
    "fleet[0].devices_per_node": None,
    "fleet[0].nodes_per_rack": 1,
    **{
        f"network.{level}.{key}": other
        for level in ("node", "site")
        for key, other in (
            ("bandwidth", "2 GB/s"),
            ("latency", "2 us"),
            ("delay", OTHER_LAW),
            ("algorithm", "auto"),
        )
    },
    **{f"network.{level}.{key}": OTHER_LAW for level, shared in SHARED.items() for key in shared},
    **{
        f"{place}jitter.{key}": OTHER_LAW
        for place in ("", "fleet[0].")
        for key in ("persistent", "node", "rack", "site", "step", "operation", "stall")
    },
    **{
        f"{place}.{key}": other
        for place in (
            *(f"jitter.{state}" for state in ("slow", "slow_node", "slow_rack", "slow_site")),
            *(f"fleet[0].jitter.{state}" for state in ("slow", "slow_node", "slow_rack")),
        )
        for key, other in (
            ("catalogue", "worker-fault"),
            ("every", "1 d"),
            ("duration", "2 h"),
            ("factor", OTHER_LAW),
        )
    },
    **{
        f"{place}.{key}": other
        for place in (
            *(f"jitter.{shock}" for shock in ("shock", "shock_node", "shock_rack", "shock_site")),
            *(f"fleet[0].jitter.{shock}" for shock in ("shock", "shock_node", "shock_rack")),
        )
        for key, other in (("every", "1 d"), ("factor", OTHER_LAW))
    },
    "jitter.correlation": 0.5,
    "fleet[0].jitter.correlation": 0,
    "jitter.daily.catalogue": None,
    "jitter.daily.amplitude": 0.02,
    "jitter.daily.peak": "0 h",
    "jitter.daily.period": "24 h",
    "link[0].delay": OTHER_LAW,
    "link[0].utilisation": 0.25,
    "link[0].queue": "m/m/1",
    "link[0].arrival_cv": 3,
    "link[0].service_cv": 0,
    "link[0].loss": 1e-5,
    "link[0].protocol": "go-back-n",
    "link[0].packet": 4096,
    "link[0].connections": 1,
    "link[0].flap.every": "2 days",
    "link[0].flap.duration": "6 s",
    "link[0].lanes": 5,
    "link[0].lane_failure.every": "2 days",
    "link[0].lane_failure.duration": "6 h",
    "link[0].age": "10 years",
    "link[0].slow.every": "3 d",
    "link[0].slow.duration": "2 h",
    "link[0].slow.factor": OTHER_LAW,
    "remedy.shares": "group",
    "remedy.microbatches": 9,
    "remedy.most_share": 3,
    "remedy.drop_devices": 2,
    "remedy.drop_nodes": 0,
    "remedy.spares": 0.25,
    "remedy.evict_after": "2 h",
    "remedy.swap_cost": "2 min",
    "sync.policy": "diloco",
    "sync.inner_steps": 3,
    "sync.statistical_efficiency": 0.75,
    "sync.staleness": 1,
    "sync.wait_for": 1,
    "sync.timeout": "1 s",
    "sync.quorum": 1,
    "sync.grace": "1 s",
    "sync.fragments": 1,
    "sync.overlap_steps": 1,
    "inference.parameters": 3e9,
    "inference.active_parameters": 1.5e9,
    "inference.layers": 11,
    "inference.hidden": 101,
    "inference.cache": "2 kB",
    "inference.precision": "bf16",
    "inference.prompt": 101,
    "inference.output": 11,
    "inference.variation": 0,
    "inference.devices_per_replica": 1,
    "inference.batch": 9,
    "inference.utilisation": 0.6,
    "inference.compute_efficiency": 0.4,
    "inference.bandwidth_efficiency": 0.4,
    "inference.memory_share": 0.7,
    "inference.time_per_token": "2 s",
    "power.pue": 1.2,
    "power.servers": 1.5,
    "power.waiting": 0.5,
    "power.decode": 0.4,
    "power.idle": 0,
    "prices.currency": "EUR",
    "prices.catalogue": None,
    "prices.gpu_hour": 2,
    "prices.lease_per_month": 1e6,
    "prices.kilowatt_hour": 0.2,
    "verdict.mfu": 0.4,
    "verdict.public_utilisation": 0.12,
    "verdict.source": "somebody",
}

# Of several sites, with a model that is not divided.
SITES = {
    "workload.parallel": None,
    "fleet": [FULL["fleet"][0], FULL["fleet"][0] | {"name": "b", "site": "b"}],
}

# What must be changed at the same time.
AT_ONCE = {
    "sync.wait_for": {
        "sync.policy": "backup",
        "sync.inner_steps": None,
        "workload.parallel": None,
    },
    "sync.timeout": {
        "sync.policy": "timeout",
        "sync.inner_steps": None,
        "workload.parallel": None,
    },
    "sync.staleness": {
        "sync.policy": "ssp",
        "sync.inner_steps": None,
        "workload.parallel": None,
    },
    "sync.quorum": SITES | {"sync.policy": "quorum"},
    "sync.grace": SITES | {"sync.policy": "quorum", "sync.quorum": 1},
    "sync.fragments": SITES | {"sync.policy": "streaming-diloco"},
    "sync.overlap_steps": SITES | {"sync.policy": "streaming-diloco", "sync.fragments": 1},
    "link[0].queue": {"link[0].arrival_cv": None, "link[0].service_cv": None},
    "workload.parallel.pipeline": {"workload.parallel.stages": ["own"] * 4},
    "workload.parallel.schedule": {"workload.parallel.virtual_stages": None},
    "workload.parallel.placement": {"workload.parallel.stages": None},
    "prices.currency": {"prices.catalogue": None},
    "prices.gpu_hour": {"prices.catalogue": None},
    "prices.lease_per_month": {"prices.catalogue": None},
    "verdict.mfu": {"workload.model": None},
}

QUANTILES = {"values": [1, 2, 3], "probabilities": [0, 0.5, 1]}

# By law and key: two tables of parameters that differ in that key.
OTHER_PARAMETERS = {
    "constant.value": ({"value": 1}, {"value": 2}),
    "uniform.low": ({"low": 1, "high": 3}, {"low": 2, "high": 3}),
    "uniform.high": ({"low": 1, "high": 3}, {"low": 1, "high": 4}),
    "exponential.mean": ({"mean": 1}, {"mean": 2}),
    "normal.mean": ({"mean": 1, "sd": 1}, {"mean": 2, "sd": 1}),
    "normal.sd": ({"mean": 1, "sd": 1}, {"mean": 1, "sd": 2}),
    "lognormal.mean": ({"mean": 1, "cv": 1}, {"mean": 2, "cv": 1}),
    "lognormal.cv": ({"mean": 1, "cv": 1}, {"mean": 1, "cv": 2}),
    "lognormal.median": ({"median": 1, "sigma": 1}, {"median": 2, "sigma": 1}),
    "lognormal.sigma": ({"median": 1, "sigma": 1}, {"median": 1, "sigma": 2}),
    "gamma.mean": ({"mean": 1, "cv": 1}, {"mean": 2, "cv": 1}),
    "gamma.cv": ({"mean": 1, "cv": 1}, {"mean": 1, "cv": 2}),
    "weibull.scale": ({"scale": 1, "shape": 1}, {"scale": 2, "shape": 1}),
    "weibull.shape": ({"scale": 1, "shape": 1}, {"scale": 1, "shape": 2}),
    "pareto.scale": ({"scale": 1, "alpha": 2}, {"scale": 2, "alpha": 2}),
    "pareto.alpha": ({"scale": 1, "alpha": 2}, {"scale": 1, "alpha": 3}),
    "mixture.parts": (
        {"parts": [{"weight": 1, "law": "constant", "value": 1}]},
        {"parts": [{"weight": 0.5, "law": "constant", "value": 1}] * 2},
    ),
    "empirical.file": ({"file": "one.csv"}, {"file": "two.csv"}),
    "empirical.column": (
        {"file": "two columns.csv", "column": "x"},
        {"file": "two columns.csv", "column": "y"},
    ),
    "empirical.unit": ({"file": "one.csv"}, {"file": "one.csv", "unit": "ms"}),
    "empirical.values": ({"values": [1, 2, 3]}, {"values": [1, 2, 4]}),
    "empirical.probabilities": (QUANTILES, QUANTILES | {"probabilities": [0, 0.25, 1]}),
    "empirical.table": ({"table": "hdr200-same-rack"}, {"table": "aries-day-shared"}),
    "empirical.tail": ({"values": [1, 2, 3]}, {"values": [1, 2, 3], "tail": "pareto"}),
    "scipy.name": ({"name": "norm"}, {"name": "gumbel_r"}),
    "scipy.shapes": ({"name": "gamma", "a": 2}, {"name": "gamma", "a": 3}),
    "scipy.loc": ({"name": "norm"}, {"name": "norm", "loc": 1}),
    "scipy.scale": ({"name": "norm"}, {"name": "norm", "scale": 2}),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A directory with files of measured values."""
    path = tmp_path_factory.mktemp("scenarios")
    (path / "delays.csv").write_text("node,us\n0,5\n1,7\n2,3.5\n3,50\n")
    (path / "one.csv").write_text("1\n2\n3\n")
    (path / "two.csv").write_text("1\n2\n4\n")
    (path / "two columns.csv").write_text("x,y\n1,2\n2,3\n")
    return path


@pytest.fixture(scope="module")
def full():
    return Scenario.from_dict(FULL)


@pytest.fixture(scope="module")
def design(directory):
    return parse_scenario(DESIGN, "design.toml", directory)


def read(text, settings=None, directory=None):
    return parse_scenario(text, "test.toml", directory or Path(), settings)


def problems(call, *arguments):
    """What is wrong, as one text a problem."""
    with pytest.raises(ScenarioError) as caught:
        call(*arguments)
    return str(caught.value).split("\n")


def fields_of(cls, path=""):
    """Every key of a part and of the parts in it: its path and its declaration."""
    for field in dataclasses.fields(cls):
        spec = spec_of(field)
        here = f"{path}.{field.name}" if path else field.name
        if spec.item is None:
            yield here, field
        else:
            number = {"tables": 2 if field.name == "site" else 0}.get(spec.kind)
            yield from fields_of(spec.item, here if number is None else f"{here}[{number}]")


FIELDS = dict(fields_of(Scenario))


def same(one, other):
    """Equal in every respect that scenarios can be."""
    return one == other and one.hash == other.hash and hash(one) == hash(other)


def reordered(value):
    """The same table with the keys of every table in reversed order."""
    if isinstance(value, dict):
        return {key: reordered(item) for key, item in reversed(value.items())}
    return [reordered(item) for item in value] if isinstance(value, list) else value


names = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=6).filter(
    str.isprintable
)
positive = st.floats(1e-6, 1e6)
spread = st.floats(0, 2)


def law_of(name, /, **parameters):
    return st.fixed_dictionaries({"law": st.just(name), **parameters})


positive_laws = st.one_of(
    law_of("constant", value=positive),
    law_of("lognormal", mean=positive, cv=spread),
    law_of("lognormal", median=positive, sigma=spread),
    law_of("gamma", mean=positive, cv=st.floats(0.1, 2)),
    law_of("exponential", mean=positive),
    law_of("weibull", scale=positive, shape=st.floats(0.5, 5)),
    law_of("pareto", scale=positive, alpha=st.floats(1.1, 5)),
    law_of("scipy", name=st.just("gamma"), a=st.floats(0.5, 5), scale=positive),
)
simple_laws = st.one_of(
    positive_laws,
    law_of("constant", value=st.floats(-1e9, 1e9)),
    law_of("uniform", low=st.floats(-1, 0), high=st.floats(0, 1)),
    law_of("normal", mean=st.floats(-1e9, 1e9), sd=spread),
    law_of("empirical", values=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5)),
)


@st.composite
def mixtures(draw, simple):
    parts = draw(st.lists(simple, min_size=1, max_size=3))
    weights = [1 / len(parts)] * len(parts)
    tables = [{"weight": weight} | part for weight, part in zip(weights, parts, strict=True)]
    return {"law": "mixture", "parts": tables}


laws = st.one_of(simple_laws, mixtures(simple_laws))
delays = st.one_of(positive_laws, mixtures(positive_laws))
rates = st.floats(1.0, 1e12)


def table_of(required=None, **optional):
    return st.fixed_dictionaries(required or {}, optional=optional)


factors = st.one_of(
    law_of("constant", value=positive),
    law_of("uniform", low=st.floats(0, 1), high=st.floats(1, 2)),
    law_of("lognormal", mean=positive, cv=spread),
    law_of("empirical", values=st.lists(positive, min_size=1, max_size=5)),
)
slow_states = table_of({"every": positive, "duration": positive, "factor": factors})
shocks = table_of({"every": positive, "factor": factors})
swings = table_of({"amplitude": st.floats(0, 0.9)}, peak=positive, period=positive)
of_a_fleet = {
    **dict.fromkeys(("persistent", "node", "rack", "site"), factors),
    **dict.fromkeys(("step", "operation", "stall"), laws),
    **dict.fromkeys(("slow", "slow_node", "slow_rack"), slow_states),
    **dict.fromkeys(("shock", "shock_node", "shock_rack"), shocks),
}
of_a_fleet["correlation"] = st.floats(0, 0.99)
jitters = table_of(**of_a_fleet)
common_jitters = table_of(**of_a_fleet, slow_site=slow_states, shock_site=shocks, daily=swings)


@st.composite
def scenario_tables(draw):
    sites = draw(st.lists(names, max_size=3, unique=True))
    groups = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    counts = st.integers(1, 2**31 - 1)
    group = {"device": st.just("custom"), "compute": positive, "count": counts}
    if sites:
        group["site"] = st.sampled_from(sites)
    fleet = [
        {"name": name}
        | draw(table_of(group, efficiency=positive, devices_per_node=counts, jitter=jitters))
        for name in groups
    ]
    pairs = [[a, b] for i, a in enumerate(sites) for b in sites[:i]]
    link = [
        {"between": pair} | draw(table_of({"bandwidth": rates}, distance=positive, delay=delays))
        for pair in pairs
    ]
    level = table_of({"bandwidth": rates}, latency=positive, delay=delays)
    rest = table_of(
        {"name": names},
        run=table_of(seed=st.integers(0, 2**64 - 1), steps=st.integers(1, 2**32 - 1)),
        workload=table_of(gradient=positive, overlap=st.floats(0, 1)),
        network=table_of(node=level, site=level),
        jitter=common_jitters,
    )
    table = draw(rest) | {"fleet": fleet}
    if sites:
        table["site"] = [{"name": name} for name in sites]
    if link:
        table["link"] = link
    return table


class TestPrintingAndReading:
    @pytest.mark.parametrize("name", bundled())
    def test_bundled_scenarios_are_read_back(self, name):
        scenario = mcsim.load(name)
        assert scenario.name == name
        assert same(read(scenario.to_toml()), scenario)
        assert same(Scenario.from_dict(scenario.to_dict()), scenario)

    @settings(max_examples=60, deadline=None)
    @given(scenario_tables())
    def test_any_scenario_is_read_back(self, table):
        scenario = Scenario.from_dict(table)
        text = scenario.to_toml()
        assert same(read(text), scenario)
        assert read(text).to_toml() == text
        assert same(Scenario.from_dict(scenario.to_dict()), scenario)
        assert tomllib.loads(text) == scenario.to_dict()

    @settings(max_examples=30, deadline=None)
    @given(scenario_tables())
    def test_order_of_keys_and_comments_do_not_matter(self, table):
        scenario = Scenario.from_dict(table)
        assert same(Scenario.from_dict(reordered(table)), scenario)
        commented = "".join(f"{line} # = [x]\n" for line in scenario.to_toml().split("\n"))
        assert same(read(commented), scenario)

    def test_a_scenario_with_every_key_is_read_back(self, full):
        assert same(read(full.to_toml()), full)
        assert same(Scenario.from_dict(reordered(FULL)), full)

    def test_the_example_of_the_design_loads(self, design):
        assert design.run.steps == 20_000
        assert design.workload.gradient == 628e9
        assert design.link[0].bandwidth == 1e11
        assert design.network.site.delay.values == (3.5e-6, 5e-6, 7e-6, 5e-5)
        assert [part.weight for part in design.fleet[0].jitter.node.parts] == [0.995, 0.005]

    def test_the_stored_text_needs_no_data_file(self, design, tmp_path):
        stored = read(design.to_toml(), directory=tmp_path)
        assert same(stored, design)
        assert stored.network.site.delay.values == design.network.site.delay.values

    def test_different_data_under_the_same_name_is_another_scenario(self, design, tmp_path):
        (tmp_path / "delays.csv").write_text("node,us\n0,5\n1,7\n2,3.5\n3,51\n")
        assert read(DESIGN, directory=tmp_path).hash != design.hash

    def test_the_same_quantity_in_other_units_is_the_same_scenario(self):
        expected = read(MINIMAL)
        for written in ("1", "1.0", "1e0", '"1s"', '"1000 ms"', '"1_000_000 us"', '"1e9 ns"'):
            assert same(read(MINIMAL.replace('"1 s"', written)), expected)

    def test_zero_of_either_sign_is_the_same_scenario(self):
        one, other = (read(f"{MINIMAL}[workload]\noverlap = {zero}") for zero in ("0.0", "-0.0"))
        assert same(one, other)

    def test_a_byte_order_mark_and_other_line_ends_do_not_matter(self, tmp_path):
        (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
        assert same(mcsim.load(tmp_path / "x.toml"), read(MINIMAL))


class TestWhatTheHashDependsOn:
    def test_every_key_that_is_declared_has_a_case(self):
        """A new key needs a line in OTHER, or its influence on the hash goes untested."""
        only_one_choice = {
            path for path, field in FIELDS.items() if len(spec_of(field).choices) == 1
        }
        assert set(OTHER) == set(FIELDS) - only_one_choice

    @pytest.mark.parametrize("path", OTHER)
    def test_every_key_changes_the_hash(self, path, full):
        changes = {path: OTHER[path]}
        if path == "fleet[0].device":
            changes["fleet[0].compute"] = None
        changes |= AT_ONCE.get(path, {})
        changed = full.replace(changes)
        assert changed != full
        # Where it is computed changes nothing.
        assert (changed.hash != full.hash) == (path != "run.target")

    @pytest.mark.parametrize("array", ["site", "link", "fleet"])
    def test_every_table_of_an_array_changes_the_hash(self, array, full):
        others = {
            "site": {"name": "d"},
            "link": FULL["link"][0] | {"between": ["b", "c"]},
            "fleet": FULL["fleet"][0] | {"name": "b"},
        }
        more = full.replace({array: [*FULL[array], others[array]]})
        turned = full.replace({array: [others[array], *FULL[array]]})
        assert len({full.hash, more.hash, turned.hash}) == 3

    def test_every_parameter_of_every_law_has_a_case(self):
        declared = {
            f"{name}.{field.name}"
            for name, law in LAWS.items()
            for field in dataclasses.fields(law)
        }
        assert set(OTHER_PARAMETERS) == declared

    @pytest.mark.parametrize("key", OTHER_PARAMETERS)
    def test_every_parameter_of_a_law_changes_the_hash(self, key, directory):
        one, other = (
            Scenario.from_dict(
                FULL | {"jitter": {"stall": {"law": key.partition(".")[0]} | parameters}},
                directory=directory,
            )
            for parameters in OTHER_PARAMETERS[key]
        )
        assert isinstance(one.jitter.stall, Law)
        assert one != other
        assert one.hash != other.hash
        assert same(read(one.to_toml()), one)
        assert same(read(other.to_toml()), other)

    @pytest.mark.parametrize(
        "path",
        [
            path
            for path, field in FIELDS.items()
            if field.default is not dataclasses.MISSING and field.default is not None
        ],
    )
    def test_a_default_may_be_left_out(self, path, full):
        # Without keys that need others.
        free = {"link[0].arrival_cv": None, "link[0].service_cv": None}
        free |= {"sync.inner_steps": None, "sync.policy": "bsp"}
        free |= {"remedy.microbatches": None, "remedy.most_share": None}
        free |= {"remedy.swap_cost": None}
        plain = full.replace({"workload.parallel": {"tensor": 2}, **free})
        assert same(plain.replace({path: FIELDS[path].default}), plain.replace({path: None}))

    @pytest.mark.parametrize(
        "table", ["[run]", "[workload]", "[network]", "[jitter]", "[fleet.jitter]", "[sync]"]
    )
    def test_an_empty_table_may_be_left_out(self, table):
        assert same(read(f"{MINIMAL}{table}"), read(MINIMAL))

    def test_an_empty_level_of_the_network_is_not_an_absent_one(self):
        text = MINIMAL.replace('"custom"\ncompute = "1 s"', '"h100-sxm"')
        text += '[workload]\ncompute = "1 s"\nreference = "h100-sxm"\n'
        assert read(f"{text}[network.node]").hash != read(text).hash

    def test_the_hash_is_the_same_in_every_process(self, full):
        program = "import mcsim; print(mcsim.load('-').hash)"
        run = subprocess.run(
            [sys.executable, "-c", program],
            input=full.to_toml(),
            env=os.environ | {"PYTHONHASHSEED": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == full.hash


def test_of_several_that_begin_alike_the_shortest_is_meant():
    known = ["three-campus-new-fibre", "three-campus", "colossus-1-refreshed", "colossus-1"]
    assert did_you_mean("three-campu", known) == ' (did you mean "three-campus"?)'
    assert did_you_mean("colossus", known) == ' (did you mean "colossus-1"?)'


class TestSet:
    @pytest.mark.parametrize(
        ("key", "text", "value"),
        [
            ("run.steps", "100", 100),
            ("run.steps", "0x10", 16),
            ("run.steps", "1_000", 1000),
            ("run.seed", str(2**64 - 1), 2**64 - 1),
            ("run.engine", "sampled", "sampled"),
            ("run.engine", '"sampled"', "sampled"),
            ("workload.compute", "2 s", 2.0),
            ("workload.compute", "2.5", 2.5),
            ("workload.compute", '"50 us"', 50e-6),
            ("workload.overlap", "50 %", 0.5),
            ("workload.overlap", ".5", 0.5),
            ("workload.gradient", "2 GB", 2e9),
            ("name", "12", "12"),
            ("name", "true", "true"),
            ("name", "1979-05-27", "1979-05-27"),
            ("name", "'12'", "12"),
            ("name", "a.b = [c]", "a.b = [c]"),
            ("fleet[0].name", "7", "7"),
            ("fleet.0.count", "7", 7),
            ("fleet.own.count", "7", 7),
            ('fleet."own".count', "7", 7),
            ("fleet.own.name", "7", "7"),
            ("fleet[0].efficiency", "1e-3", 1e-3),
            ("site[2].name", "true", "true"),
            ("site.c.name", "true", "true"),
            ("link[0].between", '["a", "c"]', ("a", "c")),
            ("link.0.distance", "10 mi", 16093.44),
            ("link[0].medium", "silica", "silica"),
            ("network.site.algorithm", "double-binary-tree", "double-binary-tree"),
        ],
    )
    def test_values_are_read_by_the_kind_of_their_key(self, key, text, value, full):
        scenario = read(full.to_toml(), {key: text})
        words = key.replace("[", ".").replace("]", "").replace('"', "").split(".")
        here = scenario
        for word in words:
            word = "0" if word == "own" else "2" if word == "c" else word
            here = here[int(word)] if word.isdigit() else getattr(here, word)
        assert here == value
        assert type(here) is type(value)

    def test_a_table_may_be_set_whole(self, full):
        changed = read(
            full.to_toml(),
            {
                "jitter.stall": '{ law = "constant", value = "2 ms" }',
                "fleet.own.jitter.step": "{ law = 'normal', mean = 1, sd = 0.1 }",
                "site[2]": '{ name = "other" }',
            },
        )
        assert changed.jitter.stall == LAWS["constant"](value=2e-3)
        assert changed.fleet[0].jitter.step == LAWS["normal"](mean=1.0, sd=0.1)
        assert changed.site[2].name == "other"

    def test_parameters_of_laws_may_be_set(self, design, directory):
        changed = parse_scenario(
            DESIGN,
            "design.toml",
            directory,
            {
                "fleet.hopper.jitter.stall.mean": "3 ms",
                "fleet.hopper.jitter.node.parts[1].value": "1.2",
                "network.site.delay.column": "us",
                "fleet[0].jitter.step.law": "gamma",
            },
        )
        jitter = changed.fleet[0].jitter
        assert jitter.stall.mean == 3e-3
        assert jitter.node.parts[1].law.value == 1.2
        assert type(jitter.step).name == "gamma"

    def test_an_absent_table_is_made(self):
        changed = read(MINIMAL, {"jitter.stall.law": "exponential", "jitter.stall.mean": "1 s"})
        assert changed.jitter.stall == LAWS["exponential"](mean=1.0)

    def test_names_with_dots_and_brackets_are_quoted(self):
        text = MINIMAL.replace('name = "own"', 'name = "a.b [1] \\"c\\""')
        path = r'fleet."a.b [1] \"c\"".count'
        assert read(text, {path: "9"}).fleet[0].count == 9
        assert read(text).replace({path: 9}).fleet[0].count == 9

    def test_a_name_comes_before_a_number(self):
        text = MINIMAL + MINIMAL.replace('name = "minimal"', "").replace("own", "0")
        changed = read(text, {"fleet.0.count": "9", "fleet[0].count": "8"})
        assert [group.count for group in changed.fleet] == [8, 9]

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"run.steps": "0"}, ["run.steps: 0 must be at least 1"]),
            ({"run.steps": "1.5"}, ["run.steps: 1.5 must be a whole number"]),
            ({"run.steps": ""}, ['run.steps: "" must be a whole number']),
            ({"run.steps": "1\n[x]"}, ['run.steps: "1\\n[x]" must be a whole number']),
            ({"run.stepps": "1"}, ['run.stepps: unknown key (did you mean "steps"?)']),
            ({"fleet.own.count": "0"}, ["fleet[0].count: 0 must be at least 1"]),
            ({"fleet.0.count": "x"}, ['fleet[0].count: "x" must be a whole number']),
            ({"fleet.own.jitter": "{ x = 1 }"}, ["fleet[0].jitter.x: unknown key"]),
            ({"fleet.own": "3"}, ["fleet[0]: must be a table, not 3"]),
            ({"fleet.ow.count": "1"}, ['fleet.ow.count: none is named "ow" (did you mean "own"?)']),
            ({"fleet[7].count": "1"}, ["fleet[7].count: there are only 1, counted from 0"]),
            ({"fleet.7.count": "1"}, ["fleet.7.count: there are only 1, counted from 0"]),
            ({"fleet.\u00b2.count": "1"}, ['fleet.\u00b2.count: none is named "\u00b2"; there']),
            ({"fleet.count": "1"}, ['fleet.count: none is named "count"']),
            ({f"fleet[{'9' * 5000}].count": "1"}, ["fleet[999"]),
            ({"run[0].steps": "1"}, ["run[0].steps: run is not an array"]),
            ({"name.x": "1"}, ["name.x: name is not a table"]),
            ({"run..steps": "1"}, ["run..steps: is not a key path such as fleet[0].count"]),
            ({"run.": "1"}, ["run.: is not a key path"]),
            ({".": "1"}, [".: is not a key path"]),
            ({'fleet."own.count': "1"}, ['fleet."own.count: is not a key path']),
            ({"fleet[x].count": "1"}, ["fleet[x].count: is not a key path"]),
            ({"a\nb": "1"}, ['"a\\nb": unknown key']),
            ({"jitter.step": "lognormal"}, ["jitter.step: must be a law such as"]),
            (
                {"fleet.x.count": "1", "fleet.y.count": "1"},
                ['fleet.x.count: none is named "x"', 'fleet.y.count: none is named "y"'],
            ),
            (
                {"run.steps": "0", "workload.overlap": "2"},
                ["run.steps: 0 must be", "workload.overlap: 2 must be"],
            ),
        ],
    )  # fmt: skip
    def test_errors_name_the_key_and_no_line(self, settings, expected):
        found = problems(read, MINIMAL + "[run]\nsteps = 1\n", settings)
        assert len(found) == len(expected)
        for line, message in zip(found, expected, strict=True):
            assert line.startswith("--set ")
            assert f": {message}" in line

    def test_errors_name_the_setting_on_one_line(self):
        assert problems(read, MINIMAL, {"fleet.own.count": "0"}) == [
            "--set fleet.own.count=0: fleet[0].count: 0 must be at least 1"
        ]
        (found,) = problems(read, MINIMAL, {"run.steps": "1\n[x]"})
        assert found.startswith("--set run.steps=1\\n[x]: run.steps: ")
        (found,) = problems(read, MINIMAL, {"run.steps": "x" * 1000})
        assert found.startswith(f"--set run.steps={'x' * 61}...: run.steps: ")

    def test_problems_of_the_file_keep_their_lines(self):
        found = problems(read, MINIMAL.replace("4", "0"), {"fleet.own.compute": "0 s"})
        assert found == [
            "test.toml:6: fleet[0].count: 0 must be at least 1",
            '--set fleet.own.compute=0 s: fleet[0].compute: "0 s" must be at least 1e-15',
        ]

    def test_tables_whose_names_are_wrong_are_chosen_by_number(self):
        text = MINIMAL.replace('name = "own"', "name = [1]")
        assert problems(read, text, {"fleet.own.count": "1"}) == [
            '--set fleet.own.count=1: fleet.own.count: none is named "own"; use a number,'
            " as in link[0]"
        ]
        assert len(problems(read, text, {"fleet[0].count": "1"})) == 1

    def test_the_command_line_sets_keys(self, tmp_path):
        (tmp_path / "x.toml").write_text(MINIMAL)
        arguments = [str(tmp_path / "x.toml"), "--set", "fleet.own.count=12_345", "--seed", "99"]
        result = CliRunner().invoke(main, ["check", *arguments])
        assert result.exit_code == 0
        assert "12,345" in result.stdout
        assert "seed 99" in result.stdout
        result = CliRunner().invoke(main, ["check", *arguments, "--set", "fleet.own.count=0"])
        assert result.exit_code == 2
        said = "--set fleet.own.count=0: fleet[0].count: 0 must be at least 1\n"
        assert result.stderr == said


class TestReplace:
    def test_the_original_stays_as_it_was(self, full):
        before = full.to_toml()
        changed = full.replace({"run.steps": 100, "fleet.own.count": 7})
        assert (changed.run.steps, changed.fleet[0].count) == (100, 7)
        assert full.to_toml() == before

    def test_nothing_changed_is_an_equal_scenario(self, full):
        assert same(full.replace({}), full)
        assert same(full.replace({"run.steps": full.run.steps}), full)

    def test_none_takes_a_key_or_a_table_away(self, full):
        changed = full.replace(
            {"run.steps": None, "jitter": None, "network.node.delay": None, "site.c": None}
        )
        assert changed.run.steps == 1_000
        assert changed.jitter is None
        assert changed.network.node.delay is None
        assert [site.name for site in changed.site] == ["a", "b"]

    def test_taking_away_what_is_not_there_changes_nothing(self):
        scenario = read(MINIMAL)
        assert same(scenario.replace({"network.node.delay": None, "jitter.step": None}), scenario)

    def test_numbers_of_numpy_are_numbers(self, full):
        changed = full.replace(
            {"run.seed": np.uint64(2**64 - 1), "workload.overlap": np.float32(0.5)}
        )
        assert same(changed, full.replace({"run.seed": 2**64 - 1, "workload.overlap": 0.5}))
        assert problems(full.replace, {"run.steps": np.float64(2)}) == [
            "scenario: run.steps: 2.0 must be a whole number; write 2"
        ]

    def test_a_law_may_be_replaced_by_a_table(self, full):
        changed = full.replace({"jitter.step": {"law": "constant", "value": 2}})
        assert changed.jitter.step == LAWS["constant"](value=2.0)

    def test_errors_name_the_key(self, full):
        assert problems(full.replace, {"run.steps": 0, "fleet.own.site": "x"}) == [
            "scenario: run.steps: 0 must be at least 1",
            'scenario: fleet[0].site: unknown site "x"; there are a, b, c',
        ]
        assert problems(full.replace, {"fleet": None}) == [
            "scenario: `fleet` is missing (groups of devices)"
        ]
        assert problems(full.replace, {"fleet.x.count": 1})[0].endswith("there are own")
        assert problems(full.replace, {"fleet[0]": None})[0].endswith("not []")
        assert problems(full.replace, {"run.seed": None, "": 1})[0].endswith("fleet[0].count")

    def test_empirical_data_stays_with_the_scenario(self, design):
        changed = design.replace({"run.steps": 5})
        assert changed.network.site.delay == design.network.site.delay


class TestLoad:
    def test_bundled_names_are_found(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        assert mcsim.load("three-campus").name == "three-campus"
        assert set(bundled()) >= {"colossus-1", "three-campus"}

    def test_a_file_comes_before_a_bundled_name(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "three-campus").write_text(MINIMAL)
        assert mcsim.load("three-campus").name == "minimal"

    def test_standard_input_is_a_minus(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(MINIMAL.encode())))
        assert same(mcsim.load("-", {"run.seed": "5"}), read(MINIMAL).replace({"run.seed": 5}))
        bad = MINIMAL.replace("4", "0")
        result = CliRunner().invoke(main, ["check", "-"], input=bad)
        assert result.exit_code == 2
        assert result.stderr == "<stdin>:6: fleet[0].count: 0 must be at least 1\n"

    def test_data_files_of_standard_input_are_found_here(self, monkeypatch, directory, design):
        monkeypatch.chdir(directory)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(DESIGN.encode())))
        assert same(mcsim.load("-"), design)

    def test_data_files_are_found_beside_the_scenario(self, monkeypatch, directory, tmp_path):
        monkeypatch.chdir(tmp_path)
        (directory / "design.toml").write_text(DESIGN)
        assert len(mcsim.load(directory / "design.toml").network.site.delay.values) == 4

    def test_unknown_names_bring_a_suggestion(self):
        found = problems(mcsim.load, "colosus-1")
        assert found[0].startswith(
            'colosus-1: no such file, nor a bundled scenario (did you mean "colossus-1"?); there'
        )


class TestAsAValue:
    def test_equal_scenarios_are_one_in_a_set(self, design, directory):
        again = parse_scenario(DESIGN, "other.toml", directory)
        assert len({design, again, design.replace({"run.steps": 1})}) == 2
        assert design is not again

    def test_it_cannot_be_changed(self, design):
        with pytest.raises(dataclasses.FrozenInstanceError):
            design.name = "x"
        with pytest.raises(dataclasses.FrozenInstanceError):
            design.run.steps = 1

    def test_tables_that_are_printed_share_nothing_with_it(self, design):
        design.to_dict()["fleet"][0]["count"] = 1
        assert design.fleet[0].count == 150_000
