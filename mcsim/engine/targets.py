"""Where the sampled engine computes: on the processor, or on a GPU of CUDA."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from mcsim.engine.accelerator import Accelerator
from mcsim.errors import TargetError
from mcsim.model.choice import cpu_seconds
from mcsim.model.plan import Plan
from mcsim.threads import available_threads

if TYPE_CHECKING:
    from mcsim.engine.gpu import Gpu

TARGETS = ("cpu", "cuda")
_WORTH_A_START = 60.0
"""s that the processors would take: of them a GPU takes some to begin."""


class FoundTarget(NamedTuple):
    """A target, whether it can be used here, and what it is, or why not."""

    name: str
    is_usable: bool
    what: str


def found_targets() -> list[FoundTarget]:
    """What there is on this machine."""
    here = FoundTarget("cpu", True, f"{available_threads()} thread(s)")
    try:
        return [here, FoundTarget("cuda", True, _gpu().description)]
    except TargetError as error:
        return [here, FoundTarget("cuda", False, str(error))]


def accelerator_of(target: str) -> Accelerator | None:
    """What looks at all devices, of a name of TARGETS; None for the processor.

    Raises TargetError where it is not there.
    """
    return None if target == "cpu" else _gpu()


def likely_target(plan: Plan, engine: str) -> str:
    """Where a plan is sampled that may be sampled anywhere: on a GPU if there is one, and enough to
    do for the time that it takes to begin there."""
    if engine != "sampled" or plan.division is not None:
        return "cpu"
    if plan.cutoff is not None or plan.stale is not None:
        return "cpu"
    if cpu_seconds(plan, "sampled") < _WORTH_A_START * available_threads():
        return "cpu"
    return "cuda" if all(target.is_usable for target in found_targets()) else "cpu"


@cache
def _gpu() -> Gpu:
    if find_spec("numba_cuda") is None:
        raise TargetError(
            "the target cuda needs numba-cuda and the CUDA toolkit: pip install 'mcsim[cuda]'"
        )
    from mcsim.engine.gpu import Gpu

    return Gpu()
