"""Max-min fair shares of links that several flows use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mcsim.laws import FloatArray


def max_min(capacity: Sequence[float], paths: Sequence[Sequence[int]]) -> FloatArray:
    """The rate of each flow when none can gain but from one that has no more; shape (flows,).

    capacity: of the links, in any unit of rate. paths: of each flow, the links that it uses; one
    that uses none is infinitely fast. A flow that uses a link twice counts there twice.
    Source: progressive filling; Bertsekas & Gallager, Data Networks (1992), section 6.5.2.
    """
    uses = np.zeros((len(capacity), len(paths)))
    for flow, links in enumerate(paths):
        for link in links:
            uses[link, flow] += 1.0
    left = np.array(capacity, dtype=np.float64)
    rate = np.full(len(paths), np.inf)
    waiting = uses.any(axis=0)
    while waiting.any():
        load = uses[:, waiting].sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            fair = np.where(load > 0.0, left / load, np.inf)
        tightest = int(np.argmin(fair))
        held = waiting & (uses[tightest] > 0.0)
        rate[held] = fair[tightest]
        left = np.maximum(left - uses[:, held] @ rate[held], 0.0)
        waiting &= ~held
    return rate
