"""From a scenario's [sync] to what engines need of it."""

from __future__ import annotations

import math
from dataclasses import replace

from mcsim.model.plan import Barrier
from mcsim.model.policy import Cutoff, Rounds, Stale
from mcsim.scenario.schema import OF_SITES, Sync


def cutoff_of(sync: Sync, replicas: int) -> Cutoff | None:
    """Waiting for everybody is no cutoff: then a plan is that of a full barrier."""
    if sync.timeout is not None:
        return Cutoff(timeout=sync.timeout)
    if sync.wait_for is None or sync.wait_for == replicas:
        return None
    return Cutoff(spare=replicas - sync.wait_for)


def stale_of(sync: Sync) -> Stale | None:
    """Replicas of which none may be ahead meet in every step."""
    if sync.policy == "async":
        return Stale(math.inf)
    return Stale(sync.staleness) if sync.staleness else None


def rounds_of(sync: Sync, sites: int) -> Rounds | None:
    """A round of one step that waits for all sites is a step with a full barrier."""
    if sync.policy not in OF_SITES:
        return None
    found = Rounds(
        inner=sync.steps_a_round,
        quorum=sync.quorum or sites,
        grace=sync.grace or 0.0,
        fragments=sync.fragments or 1,
        overlap=sync.overlap_steps or 0,
    )
    plain = found.inner == 1 and found.quorum == sites and found.overlap == 0
    return None if plain else found


def of_fragments(barrier: Barrier | None, rounds: Rounds | None) -> Barrier | None:
    """The barrier whose exchange among the sites carries one fragment of the model."""
    if barrier is None or rounds is None or rounds.fragments == 1:
        return barrier
    volume = barrier.exchange.volume / rounds.fragments
    return replace(barrier, exchange=replace(barrier.exchange, volume=volume))
