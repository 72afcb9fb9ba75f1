"""The network of the barrier: what the hierarchical all-reduce costs, level by level.

Inside a node the devices share the whole payload among them; each of a node's d devices then
carries its 1/d through its own adapter among the nodes of the site; the sites exchange the whole
payload over their links. Half of an all-reduce inside a site (the reduction) comes before the
exchange between sites, the other half (the distribution) after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from mcsim import catalogue
from mcsim.errors import Problem, ScenarioError
from mcsim.model.arrival import NotExact
from mcsim.model.collectives import RING, Level, Phase, phase
from mcsim.model.delays import slowest
from mcsim.model.fairness import max_min
from mcsim.model.loss import go_back_n, in_flight, mathis, selective_repeat
from mcsim.model.plan import Barrier, Delay, Group, Messages, SitePlan, identity_of
from mcsim.model.queueing import WAITS
from mcsim.model.sharing import messages_of
from mcsim.scenario.schema import Link, Network


def barrier_of(
    network: Network | None,
    links: Sequence[Link],
    payload: float | None,
    overlap: float,
    sites: Sequence[SitePlan],
    groups: Sequence[Group],
) -> Barrier | None:
    """What the collective costs; None without a payload, or without any network.

    payload: bytes. Raises ScenarioError where sites are not connected.
    """
    if payload is None or (network is None and not links):
        return None
    network = network or Network()
    at_site = [[g for g in groups if g.site == index] for index in range(len(sites))]
    inside = [_inside(network, payload, local) for local in at_site]
    delays = [
        delay
        for index, phases in enumerate(inside)
        for delay in _site_delays(network, index, sites[index], at_site[index], phases)
    ]
    across = 0.0
    if len(sites) > 1:
        used, across = _across(links, payload, [site.name for site in sites])
        messages = tuple(
            Messages("link", identity_of(link_name(link)), link.delay, 1)
            for link in used
            if link.delay is not None
        )
        if messages:
            delays.append(Delay(None, RING.rounds(len(sites)), messages))
    half = tuple(sum(phase.seconds for phase in phases) / 2 for phases in inside)
    return Barrier(half, half, across, overlap, tuple(delays))


def link_name(link: Link) -> str:
    """The name that a link's draws hang on: its ends, in either order."""
    return "\n".join(sorted(link.between))


def _inside(network: Network, payload: float, groups: Sequence[Group]) -> list[Phase]:
    """The all-reduces inside one site, by level. A level that is absent costs nothing."""
    phases = []
    if network.node is not None:
        node = network.node
        each = [
            phase(
                "all-reduce",
                node.algorithm,
                Level(_node_size(group), node.latency, node.bandwidth or group.scale_up),
                payload,
                level="node",
            )
            for group in groups
        ]
        phases.append(max(each, key=lambda one: (one.seconds, one.rounds)))
    if network.site is not None:
        site = network.site
        # The node with the fewest adapters carries the largest shares.
        share = payload / min(_node_size(group) for group in groups)
        nodes = sum(group.nodes for group in groups)
        level = Level(nodes, site.latency, site.bandwidth)
        phases.append(phase("all-reduce", site.algorithm, level, share, level="site"))
    return phases


def _node_size(group: Group) -> int:
    return min(group.devices_per_node, group.count)


def _site_delays(
    network: Network, index: int, site: SitePlan, groups: Sequence[Group], phases: Sequence[Phase]
) -> Iterator[Delay]:
    for one in phases:
        messages = messages_of(one.level, getattr(network, one.level), site, groups)
        if messages is not None and one.rounds:
            _require_known(messages)
            yield Delay(index, one.rounds, (messages,))


def _require_known(messages: Messages) -> None:
    """Raise ScenarioError where what messages share does not add up to a law."""
    if not messages.units:
        return
    try:
        slowest(messages)  # Kept: the run needs it again.
    except NotExact as impossible:
        raise ScenarioError(
            "scenario", [Problem(f"network.{messages.level}", str(impossible))]
        ) from None


def one_way_latency(link: Link) -> float:
    """Seconds that a bit takes over a link: its route, equipment, and other traffic before it."""
    speed = catalogue.medium(link.medium).speed
    queue = WAITS[link.queue](link.utilisation, link.packet / link.bandwidth)
    return link.distance * link.route_factor / speed + link.latency + queue


def goodput(link: Link) -> float:
    """What a link carries, byte/s: what other traffic leaves, without what is sent again."""
    free = link.bandwidth * (1.0 - link.utilisation)
    round_trip = 2.0 * one_way_latency(link)
    if link.protocol == "tcp":
        # Where it takes no time to hear of a loss, it costs nothing.
        each = mathis(link.loss, link.packet, round_trip) if round_trip > 0.0 else free
        return min(free, link.connections * each)
    if link.protocol == "selective-repeat":
        return free * selective_repeat(link.loss)
    return free * go_back_n(link.loss, in_flight(free, round_trip, link.packet))


def _across(
    links: Sequence[Link], payload: float, sites: Sequence[str]
) -> tuple[list[Link], float]:
    """The links in use, and the seconds of a ring all-reduce over the sites.

    The ring visits the sites in the order of the scenario, each leg on the route of least
    latency; legs that use a link in the same direction share it fairly.
    """
    names = list(dict.fromkeys([*sites, *(end for link in links for end in link.between)]))
    number = {name: index for index, name in enumerate(names)}
    by_ends = {}
    latency = np.zeros((len(names), len(names)))
    for link in links:
        a, b = (number[end] for end in link.between)
        by_ends[a, b] = by_ends[b, a] = link
        # Zero means "no edge" to the graph routines.
        latency[a, b] = latency[b, a] = max(one_way_latency(link), 1e-300)
    distance, before = shortest_path(csr_array(latency), return_predecessors=True)
    apart = [name for name in sites if not np.isfinite(distance[number[sites[0]], number[name]])]
    if apart:
        message = f'no [[link]] joins "{sites[0]}" and "{apart[0]}", which train together'
        raise ScenarioError("scenario", [Problem("link", message)])
    legs = []
    for start, end in zip(sites, [*sites[1:], sites[0]], strict=True):
        here, leg = number[end], []
        while here != number[start]:
            previous = int(before[number[start], here])
            leg.append((previous, here))
            here = previous
        legs.append(leg)
    hops = list(dict.fromkeys(hop for leg in legs for hop in leg))
    capacity = [goodput(by_ends[hop]) for hop in hops]
    bandwidth = float(max_min(capacity, [[hops.index(hop) for hop in leg] for leg in legs]).min())
    slowest = max(sum(one_way_latency(by_ends[hop]) for hop in leg) for leg in legs)
    used = list({link_name(by_ends[hop]): by_ends[hop] for hop in hops}.values())
    return used, RING.seconds(len(sites), payload, slowest, bandwidth)
