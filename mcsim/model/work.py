"""A scenario as its model is placed: what the costs of a division are worked out from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcsim.model.placement import Placement
from mcsim.model.plan import Group, SitePlan
from mcsim.model.training import Training
from mcsim.scenario import Scenario
from mcsim.scenario.network import Network
from mcsim.scenario.workload import Parallel


@dataclass(frozen=True, eq=False)
class Work:
    """training: None where no model is described."""

    scenario: Scenario
    parallel: Parallel
    placement: Placement
    training: Training | None
    sites: Sequence[SitePlan]
    groups: Sequence[Group]

    @property
    def network(self) -> Network:
        """With no level where the scenario has none."""
        return self.scenario.network or Network()

    @property
    def layers(self) -> float:
        """Of a device's piece of the model."""
        assert self.training is not None
        return self.training.model.layers / (self.parallel.pipeline * self.parallel.chunks)
