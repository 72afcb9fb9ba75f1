"""What stages hand on: results forward and gradients back, within a node, a site, or over links."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mcsim.model.division import Handing
from mcsim.model.hazard import Indices
from mcsim.model.network import Hop, Routes, goodput, link_messages, require_known
from mcsim.model.plan import Messages
from mcsim.model.sharing import messages_of_a_node
from mcsim.model.wear import aged
from mcsim.model.work import Work
from mcsim.scenario.network import NodeLevel, SiteLevel


def ways_of(work: Work) -> tuple[Indices, tuple[Handing, ...], dict[str, float]]:
    """How results leave each stage, shape (replicas, stages), as an index of the ways that follow;
    and the seconds of a step in which each link carries what stages hand on.

    Each of the devices that share a layer hands on its part of the activations. Source: Narayanan
    et al., SC 2021, section 4.1.
    """
    placement, unit = work.placement, work.placement.unit
    handing = np.zeros(unit.shape, np.intp)
    payload = work.parallel.activation
    if payload is None and work.training is not None:
        payload = work.training.activation
    if placement.stages == 1 or payload is None:
        return handing, (Handing(),), {}
    share = payload / work.parallel.tensor
    following = np.roll(unit, -1, axis=1)
    same_node = placement.node[unit] == placement.node[following]
    start, end = placement.site[unit], placement.site[following]
    ways = [Handing()]
    node, site = work.network.node, work.network.site
    if node is not None:
        for index, group in enumerate(work.groups):
            busy = share / (node.bandwidth or group.scale_up)
            ways.append(Handing(node.latency, busy, _delays(work, "node", node)))
            handing[same_node & (placement.group[unit] == index)] = len(ways) - 1
    if site is not None:
        busy = share / site.bandwidth
        ways.append(Handing(site.latency, busy, _delays(work, "site", site)))
        handing[~same_node & (start == end)] = len(ways) - 1
    crosses = start != end
    if work.parallel.chunks == 1:
        # The last stage hands on nothing.
        crosses[:, -1] = False
    pairs, count = np.unique(
        np.column_stack([start[crosses], end[crosses]]), axis=0, return_counts=True
    )
    # Each microbatch comes by once for each piece that hands on: from the last stage, all but one.
    pieces = np.full(placement.stages, work.parallel.chunks)
    pieces[-1] -= 1
    sent = [
        int((crosses & (start == a) & (end == b)).sum(axis=0) @ pieces) * work.parallel.microbatches
        for a, b in pairs
    ]
    over_links, busy_links = _over_links(work, payload, pairs, count, sent)
    for (a, b), way in zip(pairs, over_links, strict=True):
        ways.append(way)
        handing[crosses & (start == a) & (end == b)] = len(ways) - 1
    return handing, tuple(ways), busy_links


def _delays(work: Work, level: str, at: NodeLevel | SiteLevel) -> tuple[Messages, ...]:
    """The slowest message of those that the devices of a unit send side by side."""
    messages = messages_of_a_node(level, at, work.sites[0], work.parallel.tensor)
    if messages is None:
        return ()
    require_known(messages)
    return (messages,)


def _over_links(
    work: Work, payload: float, pairs: Indices, count: Indices, sent: Sequence[int]
) -> tuple[list[Handing], dict[str, float]]:
    """Of each pair of sites that `count` replicas have neighbouring stages at; all that use a link
    at once share it. sent: results of a step from one to the other. And the seconds of a step in
    which each link carries them, in its busier direction."""
    if not len(pairs):
        return [], {}
    names = [site.name for site in work.sites]
    routes = Routes([aged(link) for link in work.scenario.link], names)
    legs: list[Sequence[Hop]] = []
    for a, b in pairs:
        routes.require_joined([names[a], names[b]])
        legs.append(routes.leg(names[a], names[b]))
    load: dict[Hop, int] = {}
    all_sent: dict[Hop, int] = {}
    for leg, number, results in zip(legs, count, sent, strict=True):
        # Results go one way, gradients the other.
        for hop in [*leg, *((end, start) for start, end in leg)]:
            load[hop] = load.get(hop, 0) + int(number)
            all_sent[hop] = all_sent.get(hop, 0) + results
    carried: dict[str, float] = {}
    for hop, results in all_sent.items():
        link = routes.link(hop)
        name = "-".join(link.between)
        carried[name] = max(carried.get(name, 0.0), results * payload / goodput(link))
    ways = [
        Handing(
            routes.latency(leg),
            max(payload * load[hop] / goodput(routes.link(hop)) for hop in leg),
            link_messages([routes.link(hop) for hop in leg]),
            among_sites=True,
        )
        for leg in legs
    ]
    return ways, carried
