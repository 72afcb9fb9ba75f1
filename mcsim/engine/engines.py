"""The engines by name, and the law that the exact one draws from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mcsim.engine.clocks import ClockEngine
from mcsim.engine.exact import ExactEngine, site_laws
from mcsim.engine.pipelines import PipelineEngine
from mcsim.engine.sampled import SampledEngine
from mcsim.engine.steps import Engine
from mcsim.engine.targets import accelerator_of
from mcsim.model.choice import why_no_step_law
from mcsim.model.maximum import NotExact
from mcsim.model.plan import Plan

if TYPE_CHECKING:
    from mcsim.model.step_law import StepLaw


def sampled_engine(plan: Plan, target: str = "cpu") -> Engine:
    """The engine that draws: every device, or every operation where the model is divided.

    target: one of `targets.TARGETS`. Raises TargetError where that is not there.
    """
    if plan.division is not None:
        return PipelineEngine(plan)
    if plan.stale is not None:
        return ClockEngine(plan)
    return SampledEngine(plan, accelerator_of(target))


def engine_of(name: str, plan: Plan, target: str = "cpu") -> Engine:
    """The engine of a name for a plan. Raises NotExact where it cannot do it, and TargetError."""
    return ExactEngine(plan) if name == "exact" else sampled_engine(plan, target)


def step_law(plan: Plan, replicates: Iterable[int]) -> StepLaw:
    """The law of the step time over some clusters, each as likely. Raises NotExact."""
    from mcsim.model.step_law import StepLaw, mixture_of

    reason = why_no_step_law(plan)
    if reason is not None:
        raise NotExact(reason)
    return mixture_of([StepLaw.of(site_laws(plan, one), plan.barrier) for one in replicates])
