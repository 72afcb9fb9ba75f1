"""What wear does to a link between sites: it is down for moments."""

from __future__ import annotations

import math

from mcsim.laws import Constant, Exponential, Law, Mixture, WeightedLaw
from mcsim.model.plan import Chain
from mcsim.scenario.schema import Spells


def wait_for(flap: Spells, step_time: float, across: float) -> Law:
    """The law of an exchange's wait for a link that flaps, s.

    step_time: s, from one exchange to the next, undisturbed. across: s, of an exchange.

    Who waits sees the flap end, so a step before an exchange the link was up, and steps forget
    each other: it is down at the start with the probability refresh * share of the chain, and goes
    down on the way with 1 - exp(-across / every). What then remains of the flap is exponential. A
    second flap in one exchange is left out.
    """
    chain = Chain.of(flap.every, flap.duration, step_time)
    waits = chain.refresh * chain.share
    waits += (1.0 - waits) * -math.expm1(-across / flap.every)
    down = WeightedLaw(waits, Exponential(flap.duration))
    return Mixture((WeightedLaw(1.0 - waits, Constant(0.0)), down)) if waits < 1.0 else down.law
