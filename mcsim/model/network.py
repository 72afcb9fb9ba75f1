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
from mcsim.model.collectives import RING, Level, Phase, phase
from mcsim.model.exchange import Exchange
from mcsim.model.loss import go_back_n, in_flight, mathis, selective_repeat
from mcsim.model.plan import Barrier, Delay, Group, LinkPlan, Messages, SitePlan, identity_of
from mcsim.model.queueing import WAITS
from mcsim.model.wear import aged, link_name, states_of, wait_for
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
    exchange = Exchange()
    states: tuple[LinkPlan, ...] = ()
    if len(sites) > 1:
        used, exchange = _across(
            [aged(link) for link in links], payload, [site.name for site in sites]
        )
        step_time = max(group.compute for group in groups)
        states = tuple(states_of(link, step_time) for link in used)
        delays += _link_delays(used, len(sites), step_time, exchange.undisturbed)
    half = tuple(sum(phase.seconds for phase in phases) / 2 for phases in inside)
    return Barrier(half, half, exchange, overlap, tuple(delays), states)


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
        phases.append(max(each, key=lambda one: one.seconds))
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
    nodes = sum(group.nodes for group in groups)
    in_nodes = sum(group.count for group in groups if group.devices_per_node > 1)
    members = {"node": in_nodes, "site": nodes}
    for one in phases:
        law = getattr(network, one.level).delay
        if law is not None and one.rounds:
            messages = Messages(one.level, site.identity, law, members[one.level])
            yield Delay(index, one.rounds, (messages,))


def _link_delays(
    links: Sequence[Link], sites: int, step_time: float, across: float
) -> Iterator[Delay]:
    """Of the links in use: of each message, and where one flaps. across: s, of an exchange."""
    named = [(identity_of(link_name(link)), link) for link in links]
    delayed = tuple(
        Messages("link", identity, link.delay, 1) for identity, link in named if link.delay
    )
    # The sites wait for all links together: flaps at the same time cost no more than the longest.
    flapping = tuple(
        Messages("flap", identity, wait_for(link.flap, step_time, across), 1)
        for identity, link in named
        if link.flap
    )
    if delayed:
        yield Delay(None, RING.rounds(sites), delayed)
    if flapping:
        yield Delay(None, 1, flapping)


def one_way_latency(link: Link) -> float:
    """Seconds that a bit takes over a link: its route, equipment, and other traffic before it."""
    speed = catalogue.medium(link.medium).speed
    queue = WAITS[link.queue](link.utilisation, link.packet / link.bandwidth)
    return link.distance * link.route_factor / speed + link.latency + queue


def goodput(link: Link) -> float:
    """What a link carries, byte/s: what other traffic leaves, without what is sent again."""
    free, loss = link.bandwidth * (1.0 - link.utilisation), link.loss or 0.0
    round_trip = 2.0 * one_way_latency(link)
    if link.protocol == "tcp":
        # Where it takes no time to hear of a loss, it costs nothing.
        each = mathis(loss, link.packet, round_trip) if round_trip > 0.0 else free
        return min(free, link.connections * each)
    if link.protocol == "selective-repeat":
        return free * selective_repeat(loss)
    return free * go_back_n(loss, in_flight(free, round_trip, link.packet))


def _across(
    links: Sequence[Link], payload: float, sites: Sequence[str]
) -> tuple[list[Link], Exchange]:
    """The links in use, and a ring all-reduce over the sites.

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
    used = list(dict.fromkeys(by_ends[hop] for hop in hops))
    slowest = max(sum(one_way_latency(by_ends[hop]) for hop in leg) for leg in legs)
    return used, Exchange(
        RING.rounds(len(sites)) * slowest,
        RING.volume(len(sites)) * payload,
        tuple(goodput(by_ends[hop]) for hop in hops),
        tuple(tuple(hops.index(hop) for hop in leg) for leg in legs),
        tuple(used.index(by_ends[hop]) for hop in hops),
    )
