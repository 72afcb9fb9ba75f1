"""What is known of each point of a study: finished, written down, and read back exactly.

A checkpoint of a sweep, a shard of one and a merge are one kind of file: NetCDF with a text for
each finished point, which holds every number with all its digits, under a checksum of all texts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mcsim.engine.philox import GENERATOR
from mcsim.errors import ResultError
from mcsim.results.checkpoint import CheckpointFiles
from mcsim.results.label import provenance_of, version_of
from mcsim.results.netcdf import open_result, write_netcdf
from mcsim.scenario import Scenario, parse_scenario

PART = "part of a sweep"
"""The attribute `study` of such a file."""

_SCALARS = ("ideal_step_time", "undisturbed_step_time", "clock")
_OF_CLUSTERS = "step_time_mean"


@dataclass(frozen=True)
class Finished:
    """One point: estimates of its run.

    variables: by name, the dimensions and the values. labels: of the dimensions. attrs: of the
    variables. engine, self_check: of the run. devices, steps, replicates: how many. inner_steps: of
    a round. wall, cpu: s.
    """

    variables: Mapping[str, tuple[tuple[str, ...], Any]]
    labels: Mapping[str, tuple[Any, ...]]
    attrs: Mapping[str, Mapping[str, Any]]
    engine: str
    self_check: str
    devices: int
    steps: int
    replicates: int
    inner_steps: int
    threads: int
    wall: float
    cpu: float

    @classmethod
    def of(cls, run: xr.Dataset, self_check: str) -> Finished:
        """What of a run's Dataset is kept: all estimates over its clusters, and their errors."""
        # Variables rather than arrays with their coordinates: a fifth of a short run's time.
        variables = {str(name): one for name, one in run.variables.items()}
        names = [name for name in variables if name.startswith("overall_")]
        kept = [*_SCALARS, _OF_CLUSTERS, *names]
        dims = sorted({str(dim) for name in kept for dim in variables[name].dims})
        return cls(
            {
                name: (tuple(map(str, variables[name].dims)), variables[name].values.tolist())
                for name in kept
            },
            {dim: tuple(variables[dim].values.tolist()) for dim in dims},
            {
                name: {
                    key: value.item() if isinstance(value, np.generic) else value
                    for key, value in variables[name].attrs.items()
                    if key != "ancillary_variables" or value in kept
                }
                for name in [*kept, *dims]
            },
            str(run.attrs["engine"]),
            self_check,
            int(run.group_devices.sum()),
            int(run.attrs["steps_done"]),
            int(run.attrs["replicates_done"]),
            int(run.attrs["inner_steps"]),
            int(run.attrs["threads"]),
            float(run.attrs["wall_seconds"]),
            float(run.attrs["cpu_seconds"]),
        )

    def estimate(self, name: str) -> tuple[float, float]:
        """A statistic over all clusters, and its standard error."""
        return float(self.variables[name][1]), float(self.variables[f"{name}_stderr"][1])


def _finished(read: Mapping[str, Any]) -> Finished:
    """As it was before it was written as JSON, which knows no tuples."""
    found = dict(read)
    found["variables"] = {
        n: (tuple(dims), values) for n, (dims, values) in read["variables"].items()
    }
    found["labels"] = {name: tuple(labels) for name, labels in read["labels"].items()}
    return Finished(**found)


@dataclass(frozen=True)
class PartOfSweep:
    """Finished points of a sweep, by their numbers. plan: which sweep, as JSON can hold it."""

    scenario: Scenario
    plan: Mapping[str, Any]
    points: Mapping[int, Finished]

    @property
    def steps(self) -> int:
        """How many are done, of all points and clusters."""
        return sum(one.steps * one.replicates for one in self.points.values())

    @property
    def missing(self) -> list[int]:
        """The numbers of the points that are not finished."""
        return [number for number in range(self.plan["points"]) if number not in self.points]

    def require_same(self, other: PartOfSweep, mine: str, theirs: str) -> None:
        """Raise ResultError where another part is not of the same sweep. mine, theirs: names."""
        for key in {**self.plan, **other.plan}:
            here, there = self.plan.get(key), other.plan.get(key)
            if here != there:
                raise ResultError(
                    f"{theirs}: is of another sweep than {mine}: its {key} is {_short(there)}, not"
                    f" {_short(here)}"
                )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def label_part(part: PartOfSweep) -> xr.Dataset:
    """The Dataset of some finished points, that a merge or a resumed sweep reads."""
    numbers = sorted(part.points)
    texts = [json.dumps(dataclasses.asdict(part.points[number])) for number in numbers]
    mean = [part.points[number].estimate("overall_step_time_mean")[0] for number in numbers]
    columns = {
        "point": ("1", "number of the point of the sweep", np.array(numbers, np.int64)),
        "step_time_mean": ("s", "mean step time, mean over the clusters", np.array(mean)),
        "finished": ("1", "all that is known of the point, as JSON", np.array(texts, "U")),
    }
    variables = {
        name: xr.Variable(("point",), values, {"units": units, "long_name": long_name})
        for name, (units, long_name, values) in columns.items()
    }
    title, total = "Part of a sweep", part.plan["points"]
    attrs = provenance_of(part.scenario, title, "swept")
    known = {
        "study": PART,
        "sweep": json.dumps(part.plan),
        "checksum": _checksum(part.plan, texts),
        "completeness": f"partial: {len(numbers)} of {total} points; `mcsim merge` joins it with"
        " the others",
    }
    return xr.Dataset(variables, attrs=attrs | known)


def _checksum(plan: Mapping[str, Any], texts: list[str]) -> str:
    return hashlib.sha256("\n".join([json.dumps(plan), *texts]).encode()).hexdigest()


def is_part_of_sweep(path: Path) -> bool:
    """Whether a file says that it is one; a file that is none, or damaged, says nothing."""
    try:
        with open_result(path) as dataset:
            return dataset.attrs.get("study") == PART
    except ResultError:
        return False


def read_points(path: Path) -> PartOfSweep:
    """The finished points in a file. Raises ResultError, naming it, for what is damaged."""
    try:
        with open_result(path) as dataset:
            attrs = dataset.attrs
            if attrs.get("study") != PART:
                raise ResultError(f"{path}: is no part of a sweep")
            ours = f"mcsim {version_of('mcsim')}", GENERATOR
            if (attrs["source"], attrs["generator"]) != ours:
                raise ResultError(
                    f"{path}: is from {attrs['source']} ({attrs['generator']}), and this is"
                    f" {' ('.join(ours)}): its numbers do not go together with others"
                )
            numbers = [int(number) for number in dataset.point.values]
            texts = [str(text) for text in dataset.finished.values]
            plan = json.loads(attrs["sweep"])
            if _checksum(plan, texts) != attrs["checksum"]:
                raise ResultError(f"{path}: is damaged: its checksum is wrong")
            scenario = parse_scenario(attrs["scenario"], path.name, Path())
        points = [_finished(json.loads(text)) for text in texts]
        return PartOfSweep(scenario, plan, dict(zip(numbers, points, strict=True)))
    except (KeyError, TypeError, ValueError, AttributeError, OSError, RuntimeError) as error:
        raise ResultError(f"{path}: is damaged, or made by hand: {error}") from None


class SweepCheckpoints(CheckpointFiles[PartOfSweep]):
    """Of a sweep: all points that are finished."""

    def _write(self, part: PartOfSweep, path: Path) -> None:
        write_netcdf(label_part(part), path)

    def _read(self, path: Path) -> PartOfSweep:
        return read_points(path)
