"""Compiling everything at once, for batch jobs whose many processes then find it done."""

from __future__ import annotations

import itertools
from dataclasses import replace

from mcsim.engine.compile import KERNELS
from mcsim.engine.engines import engine_of
from mcsim.engine.simulate import simulate
from mcsim.laws import LAWS
from mcsim.model.division import free_of_network
from mcsim.model.plan import Daily, Group, Plan, Shock, SitePlan, Slow
from mcsim.model.policy import Cutoff


def warm_up() -> int:
    """Compile every kernel that runs need, or load it from the cache, by using it.

    Result: their number.
    """
    for engine, keep in (("exact", "summary"), ("sampled", "summary"), ("sampled", "devices")):
        plan = _every_path(engine, keep)
        # Two tiles: draws that are kept are looked for where a tile begins, too.
        simulate(plan, threads=1, engine=engine_of(engine, plan), tile=plan.steps // 2)
    few = replace(_every_path("sampled", "summary"), cutoff=Cutoff(spare=10))
    simulate(few, threads=1, engine=engine_of("sampled", few))
    divided = _divided(_every_path("sampled", "summary"))
    simulate(divided, threads=1, engine=engine_of("sampled", divided))
    return sum(bool(kernel.signatures) for kernel in KERNELS)


def _divided(plan: Plan) -> Plan:
    """The same, whose groups do operations of pipelines."""
    jitter = plan.groups[0].step
    groups = tuple(replace(group, count=8, operation=jitter) for group in plan.groups)
    return replace(plan, steps=2, groups=groups, division=free_of_network(groups))


def _every_path(engine: str, keep: str) -> Plan:
    """A small plan that needs every kernel."""
    number = itertools.count()
    jitter, stall = LAWS["lognormal"](mean=1.0, cv=0.1), LAWS["exponential"](mean=0.1)  # type: ignore[call-arg]

    def group(count: int, stalls: bool) -> Group:
        name = f"group-{next(number)}"
        law = stall if stalls else None
        return Group(
            name, next(number), 0, count, 1.0, 1, 1, 1.0, jitter, None, None, None, jitter, law
        )

    groups = (group(2_000, False), group(100, True))
    if engine == "sampled" and keep == "summary":
        slow = (Slow(0.1, 0.1, jitter), Shock("device", 0.1, jitter))
        groups = (replace(groups[0], slow=slow, correlation=0.5), groups[1])
    daily = Daily(0.1, 0.1, 0.0) if keep == "summary" else None
    site = SitePlan("main", 0)
    return Plan(0, 64, 1, "auto", keep, groups, (site,), None, 1.0, 1.0, daily=daily)
