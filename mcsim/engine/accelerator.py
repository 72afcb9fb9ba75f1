"""What the sampled engine asks of another target than the processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.cluster import Cluster
from mcsim.engine.devices import Counted, DeviceTables
from mcsim.engine.screening import GroupScreen
from mcsim.laws import FloatArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Contenders:
    """What may be the last arrivals of some steps, and the surplus of the rest.

    device, step: one after the other by step, by device in a step. missing: of which of them the
    surplus is not in the sum. number: shape (steps,), how many there are in each step. surplus:
    shape (steps,), s, of all times that are kept over the expected ones.
    """

    device: IntArray
    step: NDArray[np.uint32]
    missing: NDArray[np.bool_]
    number: IntArray
    surplus: FloatArray


class Accelerator(Protocol):
    """A target that looks at all devices in some steps. All calls raise TargetError."""

    @property
    def name(self) -> str:
        """As `--target` calls it."""
        ...

    def kept(
        self, cluster: Cluster, index: int, screened: GroupScreen, first: int, count: int
    ) -> tuple[IntArray, IntArray]:
        """The codes of what is kept in each step, in their order, and their number.

        Shapes (steps, capacity) and (steps,); see `candidates`.
        """
        ...

    def contenders(
        self,
        cluster: Cluster,
        index: int,
        screened: GroupScreen,
        tables: DeviceTables,
        first: int,
        count: int,
    ) -> Contenders:
        """What the processor has to score to find the last arrivals of some steps.

        Only of groups whose times are never negative and do not depend on the step before.
        """
        ...

    def count(
        self, cluster: Cluster, index: int, tables: DeviceTables, first: int, latest: FloatArray
    ) -> Counted:
        """The counts of a group in some steps, see `devices.Counter`."""
        ...
