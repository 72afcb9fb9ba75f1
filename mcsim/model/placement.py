"""Where replicas and their stages are: which devices share a layer, a pipeline, an expert.

A *unit* is the `tensor` devices of a node that share every layer: consecutive ones of a group. A
replica has a unit for each stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcsim.errors import Problem, ScenarioError
from mcsim.model.hazard import Indices
from mcsim.model.plan import Group
from mcsim.scenario.workload import Parallel

MOST_UNITS = 20_000_000
"""Units of a fleet; with more, lists of them alone take gigabytes."""


@dataclass(frozen=True, eq=False)
class Placement:
    """unit: shape (replicas, stages), numbered through all groups. group, node, site: shape
    (units,); nodes are numbered through all groups too."""

    unit: Indices
    group: Indices
    node: Indices
    site: Indices

    @property
    def replicas(self) -> int:
        return len(self.unit)

    @property
    def stages(self) -> int:
        return int(self.unit.shape[1])


def placement_of(parallel: Parallel, groups: Sequence[Group]) -> Placement:
    """The units of every replica. Raises ScenarioError where devices and ranks do not divide."""
    tensor, stages = parallel.tensor, parallel.pipeline
    for index, group in enumerate(groups):
        _require_whole_units(index, group, tensor)
    units = np.array([group.count // tensor for group in groups])
    total = int(units.sum())
    if total > MOST_UNITS:
        raise _problem(
            "tensor",
            f"{total * tensor:,} devices are {total:,} times `tensor` = {tensor}; at most"
            f" {MOST_UNITS:,} can be placed",
        )
    if total % stages:
        raise _problem(
            "pipeline",
            f"{total * tensor:,} devices are {total:,} times `tensor` = {tensor}, which is no"
            f" multiple of {stages} stages: {total % stages * tensor:,} device(s) too many",
        )
    replicas = total // stages
    if replicas % parallel.expert:
        raise _problem(
            "expert", f"{parallel.expert} does not divide the {replicas:,} replicas of the model"
        )
    first_node = np.cumsum([0, *(group.nodes for group in groups)])
    place = [
        first_node[i] + np.arange(n) * tensor // group.devices_per_node
        for i, (n, group) in enumerate(zip(units, groups, strict=True))
    ]
    of_group = np.repeat(np.arange(len(groups)), units)
    order = _ORDERS[parallel.placement](parallel, groups, units, replicas)
    return Placement(
        order,
        of_group,
        np.concatenate(place),
        np.array([group.site for group in groups])[of_group],
    )


def _require_whole_units(index: int, group: Group, tensor: int) -> None:
    if tensor > group.devices_per_node:
        raise _problem(
            "tensor",
            f"{tensor} devices share a layer, and a node of {group.name} has"
            f" {group.devices_per_node}; they must be in one",
        )
    for what, number in (("a node", group.devices_per_node), ("all", group.count)):
        if number % tensor:
            raise _problem(
                "tensor",
                f"{tensor} does not divide the {number:,} devices of {what} of fleet[{index}],"
                f" {group.name}",
            )


def _contiguous(
    parallel: Parallel, groups: Sequence[Group], units: Indices, replicas: int
) -> Indices:
    return np.arange(units.sum()).reshape(replicas, parallel.pipeline)


def _interleaved(
    parallel: Parallel, groups: Sequence[Group], units: Indices, replicas: int
) -> Indices:
    return np.ascontiguousarray(np.arange(units.sum()).reshape(parallel.pipeline, replicas).T)


def _by_generation(
    parallel: Parallel, groups: Sequence[Group], units: Indices, replicas: int
) -> Indices:
    key = np.repeat([group.compute for group in groups], units)
    site = np.repeat([group.site for group in groups], units)
    return np.lexsort((site, key)).reshape(replicas, parallel.pipeline)


def _explicit(
    parallel: Parallel, groups: Sequence[Group], units: Indices, replicas: int
) -> Indices:
    names = [group.name for group in groups]
    unknown = [name for name in parallel.stages if name not in names]
    if unknown:
        raise _problem("stages", f'"{unknown[0]}" is no group of the fleet: {", ".join(names)}')
    first = np.cumsum(units) - units
    columns: list[Indices] = []
    used = [0] * len(groups)
    for name in parallel.stages:
        index = names.index(name)
        start = int(first[index]) + used[index]
        columns.append(np.arange(start, start + replicas))
        used[index] += replicas
    for index, name in enumerate(names):
        if used[index] != units[index]:
            raise _problem(
                "stages",
                f"{parallel.stages.count(name)} stage(s) of {replicas:,} replicas take"
                f" {used[index]:,} times `tensor` devices of {name}, which has {units[index]:,}",
            )
    return np.column_stack(columns)


_ORDERS = {
    "contiguous": _contiguous,
    "interleaved": _interleaved,
    "by-generation": _by_generation,
    "explicit": _explicit,
}


def _problem(key: str, message: str) -> ScenarioError:
    return ScenarioError("scenario", [Problem(f"workload.parallel.{key}", message)])
