"""What wear does to a link between sites: it loses more, is down for moments, carries less."""

from __future__ import annotations

import math
from dataclasses import replace

from mcsim import catalogue
from mcsim.laws import Constant, Exponential, Law, Mixture, WeightedLaw
from mcsim.model.plan import Chain, LinkPlan, Slow, identity_of
from mcsim.scenario.network import LANES, Link, Spells


def aged(link: Link) -> Link:
    """The link with what it suffers at its age, where that is not given."""
    if link.age is None:
        return link
    step = catalogue.aged(link.age)
    return replace(
        link,
        loss=step.loss if link.loss is None else link.loss,
        flap=link.flap or Spells(*step.flap),
        lane_failure=link.lane_failure or Spells(*step.lane_failure),
    )


def wait_for(flap: Spells, step_time: float, across: float) -> Law:
    """The law of an exchange's wait for a link that flaps, s.

    step_time: s, from the end of one exchange to the next, undisturbed. across: s, of an exchange.

    Who waits sees the flap end, so that time before an exchange the link was up, and steps forget
    each other: it is down at the start with the probability refresh * share of the chain, and goes
    down on the way with 1 - exp(-across / every). What then remains of the flap is exponential. A
    second flap in one exchange is left out.
    """
    chain = Chain.of(flap.every, flap.duration, step_time)
    waits = chain.refresh * chain.share
    waits += (1.0 - waits) * -math.expm1(-across / flap.every)
    down = WeightedLaw(waits, Exponential(flap.duration))
    return Mixture((WeightedLaw(1.0 - waits, Constant(0.0)), down)) if waits < 1.0 else down.law


def states_of(link: Link, step_time: float) -> LinkPlan:
    """The states of a link, looked at once a step; step_time: s, undisturbed.

    A share of its bandwidth is one of its goodput: loss and other traffic take the same part of
    what is left.
    """
    lane_down = slow = None
    lanes = link.lanes or LANES
    if link.lane_failure is not None and lanes > 1:
        lane_down = Chain.of(link.lane_failure.every, link.lane_failure.duration, step_time)
    if link.slow is not None:
        assert link.slow.factor is not None
        chain = Chain.of(link.slow.every, link.slow.duration, step_time)
        slow = Slow(chain.refresh, chain.share, link.slow.factor)
    name = "-".join(link.between)
    return LinkPlan(name, identity_of(link_name(link)), lanes, lane_down, slow)


def link_name(link: Link) -> str:
    """The name that a link's draws hang on: its ends, in either order."""
    return "\n".join(sorted(link.between))
