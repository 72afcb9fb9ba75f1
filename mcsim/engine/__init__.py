"""How steps are sampled, fast: addressed random numbers, two engines, sums in a fixed order."""

from mcsim.engine.cluster import base_times
from mcsim.engine.engines import engine_of, sampled_engine, step_law
from mcsim.engine.sampled import SampledEngine, arrivals_of, times_of
from mcsim.engine.selfcheck import SelfCheck, check_by_law
from mcsim.engine.simulate import Progress, simulate
from mcsim.engine.steps import Engine
from mcsim.engine.tally import OverlapError, Span, Tally, blocks_of
from mcsim.engine.targets import FoundTarget, accelerator_of, found_targets, likely_target
from mcsim.engine.workers import Crew, simulate_on

__all__ = [
    "Crew",
    "Engine",
    "FoundTarget",
    "OverlapError",
    "Progress",
    "SampledEngine",
    "SelfCheck",
    "Span",
    "Tally",
    "accelerator_of",
    "arrivals_of",
    "base_times",
    "blocks_of",
    "check_by_law",
    "engine_of",
    "found_targets",
    "likely_target",
    "sampled_engine",
    "simulate",
    "simulate_on",
    "step_law",
    "times_of",
]
