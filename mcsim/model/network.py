"""The network of the barrier: what the hierarchical all-reduce costs, level by level.

Inside a node the devices share the whole payload among them; each of a node's d devices then
carries its 1/d through its own adapter among the nodes of the site, and so do those of what is
left of a node; the sites exchange the whole payload over their links. Half of an all-reduce inside
a site (the reduction) comes before the exchange between sites, the other half (the distribution)
after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from mcsim import catalogue
from mcsim.errors import Problem, ScenarioError
from mcsim.model.arrival import NotExact
from mcsim.model.collectives import RING, Level, Phase, phase
from mcsim.model.delays import slowest
from mcsim.model.exchange import Exchange
from mcsim.model.loss import go_back_n, in_flight, mathis, selective_repeat
from mcsim.model.plan import (
    Barrier,
    Delay,
    Group,
    LinkPlan,
    Messages,
    SitePlan,
    Unit,
    identity_of,
    require_distinct,
)
from mcsim.model.queueing import wait
from mcsim.model.sharing import Members, messages_of
from mcsim.model.wear import aged, link_name, states_of, wait_for
from mcsim.scenario.network import Link, Network

Hop = tuple[int, int]
"""A link in one of its directions."""


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
    if payload is None or (network is None and not links and len(sites) == 1):
        return None
    members = [
        [
            Members(
                min(g.devices_per_node, g.count),
                g.nodes,
                g.count,
                g.nodes_per_rack,
                g.scale_up,
                g.has_full_node,
            )
            for g in groups
            if g.site == index
        ]
        for index in range(len(sites))
    ]
    step_time = max(group.compute for group in groups)
    return barrier_among(network or Network(), links, payload, overlap, sites, members, step_time)


def barrier_among(
    network: Network,
    links: Sequence[Link],
    payload: float,
    overlap: float,
    sites: Sequence[SitePlan],
    members: Sequence[Sequence[Members]],
    step_time: float,
    alike: int = 1,
) -> Barrier:
    """What an all-reduce costs.

    payload: bytes of a rank. members: of each site, none where it takes no part. step_time: s, from
    one such collective to the next. alike: so many
    such collectives go on side by side, each with adapters of its own inside the sites, and over
    the same links. Raises ScenarioError where sites are not connected.
    """
    inside = [_inside(network, payload, local) for local in members]
    delays = [
        delay
        for index, phases in enumerate(inside)
        for delay in _site_delays(network, index, sites[index], members[index], phases, alike)
    ]
    exchange = Exchange()
    states: tuple[LinkPlan, ...] = ()
    taking_part = [site.name for site, local in zip(sites, members, strict=True) if local]
    if len(taking_part) > 1:
        routes = Routes([aged(link) for link in links], taking_part)
        legs = routes.ring(taking_part)
        used, exchange = _across(routes, legs, payload * alike)
        states = tuple(states_of(link, step_time) for link in used)
        delays += _message_delays(routes, legs)
        delays += _flaps(used, step_time, exchange.undisturbed)
    half = tuple(sum(phase.seconds for phase in phases) / 2 for phases in inside)
    levels = tuple((_at_level("node", phases), _at_level("site", phases)) for phases in inside)
    return Barrier(half, half, exchange, overlap, tuple(delays), states, levels)


def _at_level(level: str, phases: Sequence[Phase]) -> float:
    return sum(phase.seconds for phase in phases if phase.level == level)


def _inside(network: Network, payload: float, members: Sequence[Members]) -> list[Phase]:
    """The all-reduces inside one site, by level. A level that is absent costs nothing."""
    phases: list[Phase] = []
    if not members:
        return phases
    if network.node is not None:
        node = network.node
        each = [
            phase(
                "all-reduce",
                node.algorithm,
                Level(one.in_node, node.latency, node.bandwidth or one.scale_up),
                payload,
                level="node",
            )
            for one in members
        ]
        phases.append(max(each, key=lambda one: (one.seconds, one.rounds)))
    if network.site is not None:
        site = network.site
        share = payload / _adapters(members)
        level = Level(sum(one.nodes for one in members), site.latency, site.bandwidth)
        phases.append(phase("all-reduce", site.algorithm, level, share, level="site"))
    return phases


def _adapters(members: Sequence[Members]) -> int:
    """Of a node: among so many the payload is shared.

    The node with the fewest carries the largest shares. What is left of a node, at the end of a
    group or a group of its own, does not count, as if the others made up for what it lacks; where
    there is nothing else, the largest does.
    """
    full = [one.in_node for one in members if one.full]
    return min(full) if full else max(one.in_node for one in members)


def _site_delays(
    network: Network,
    index: int,
    site: SitePlan,
    members: Sequence[Members],
    phases: Sequence[Phase],
    alike: int,
) -> Iterator[Delay]:
    for one in phases:
        messages = messages_of(one.level, getattr(network, one.level), site, members, alike)
        if messages is not None and one.rounds:
            require_known(messages)
            yield Delay(index, one.rounds, (messages,))


def require_known(messages: Messages) -> None:
    """Raise ScenarioError where delays that a message adds up have no law that can be drawn."""
    if not messages.units:
        return
    try:
        slowest(messages)  # Kept: the run needs it again.
    except NotExact as impossible:
        where = "link" if messages.level == "link" else f"network.{messages.level}"
        raise ScenarioError("scenario", [Problem(where, str(impossible))]) from None


def _flaps(links: Sequence[Link], step_time: float, across: float) -> Iterator[Delay]:
    """The wait for links that are down. across: s, of an exchange."""
    # The sites wait for all links together: flaps at the same time cost no more than the longest.
    flapping = tuple(
        Messages("flap", identity_of(link_name(link)), wait_for(link.flap, step_time, across), 1)
        for link in links
        if link.flap
    )
    if flapping:
        yield Delay(None, 1, flapping)


def _message_delays(routes: Routes, legs: Sequence[Sequence[Hop]]) -> Iterator[Delay]:
    """In each round of the ring a message goes over each leg; those that the same links delay are
    alike, whichever way they go."""
    delayed = [frozenset(link for link in map(routes.link, leg) if link.delay) for leg in legs]
    ways = Counter(way for way in delayed if way)
    if not ways:
        return
    require_distinct("link", map(_way_name, ways))
    messages = tuple(_messages_over(way, number) for way, number in ways.items())
    for one in messages:
        require_known(one)
    yield Delay(None, RING.rounds(len(legs)), messages)


def _messages_over(way: Iterable[Link], number: int) -> Messages:
    """So many messages, each late by the sum of the delays of all of these links.

    Delays of hops add up as those that are shared do, each by a single message.
    """
    laws = [link.delay for link in sorted(way, key=link_name) if link.delay]
    identity = identity_of(_way_name(way))
    if len(laws) == 1:
        return Messages("link", identity, laws[0], number)
    unit = Unit("hop", laws[1], 1)
    for law in laws[2:]:
        unit = Unit("hop", law, 0, ((unit, 1),))
    return Messages("link", identity, laws[0], 0, ((unit, number),))


def _way_name(way: Iterable[Link]) -> str:
    """The name that the draws of messages over these links hang on."""
    return "\n\n".join(sorted(map(link_name, way)))


def link_messages(links: Sequence[Link]) -> tuple[Messages, ...]:
    """A message over each of some links, where it is delayed."""
    return tuple(
        Messages("link", identity_of(link_name(link)), link.delay, 1)
        for link in links
        if link.delay
    )


def one_way_latency(link: Link) -> float:
    """Seconds that a bit takes over a link: its route, equipment, and other traffic before it."""
    speed = catalogue.medium(link.medium).speed
    cvs = (1.0 if cv is None else cv for cv in (link.arrival_cv, link.service_cv))
    queue = wait(link.queue, link.utilisation, link.packet / link.bandwidth, *cvs)
    return link.distance * link.route_factor / speed + link.latency + queue


def goodput(link: Link) -> float:
    """What a link carries, byte/s: what other traffic leaves, without what is sent again."""
    free, loss = link.bandwidth * (1.0 - link.utilisation), link.loss or 0.0
    round_trip = 2.0 * one_way_latency(link)
    connections = link.connections or 1
    if link.protocol == "tcp":
        # Where it takes no time to hear of a loss, it costs nothing.
        each = mathis(loss, link.packet, round_trip) if round_trip > 0.0 else free
        return min(free, connections * each)
    if link.protocol == "selective-repeat":
        return free * selective_repeat(loss)
    # A queue pair sends again what it has in flight itself: Mittal et al., SIGCOMM 2018.
    return free * go_back_n(loss, in_flight(free / connections, round_trip, link.packet))


class Routes:
    """The ways between sites, each of the least latency."""

    def __init__(self, links: Sequence[Link], sites: Sequence[str]) -> None:
        # Not at the top: only what has several sites needs it, and it takes 20 ms to import.
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import shortest_path

        names = list(dict.fromkeys([*sites, *(end for link in links for end in link.between)]))
        self._number = {name: index for index, name in enumerate(names)}
        self._by_ends: dict[tuple[int, int], Link] = {}
        latency = np.zeros((len(names), len(names)))
        for link in links:
            a, b = (self._number[end] for end in link.between)
            self._by_ends[a, b] = self._by_ends[b, a] = link
            # Zero means "no edge" to the graph routines.
            latency[a, b] = latency[b, a] = max(one_way_latency(link), 1e-300)
        self._distance, self._before = shortest_path(csr_array(latency), return_predecessors=True)

    def require_joined(self, sites: Sequence[str]) -> None:
        """Raise ScenarioError where there is no way between two of the sites."""
        first = self._number[sites[0]]
        for name in sites:
            if not np.isfinite(self._distance[first, self._number[name]]):
                message = f'no [[link]] joins "{sites[0]}" and "{name}", which train together'
                raise ScenarioError("scenario", [Problem("link", message)])

    def leg(self, start: str, end: str) -> list[Hop]:
        """The hops of the way from one site to another, the last first."""
        here, leg = self._number[end], []
        while here != self._number[start]:
            previous = int(self._before[self._number[start], here])
            leg.append((previous, here))
            here = previous
        return leg

    def ring(self, sites: Sequence[str]) -> list[list[Hop]]:
        """The legs of a ring that visits sites in their order.

        Raises ScenarioError where there is no way between two of them.
        """
        self.require_joined(sites)
        return [self.leg(*ends) for ends in zip(sites, [*sites[1:], sites[0]], strict=True)]

    def link(self, hop: Hop) -> Link:
        return self._by_ends[hop]

    def latency(self, leg: Sequence[Hop]) -> float:
        """Seconds that a bit takes."""
        return sum(one_way_latency(self.link(hop)) for hop in leg)


def _across(
    routes: Routes, legs: Sequence[Sequence[Hop]], payload: float
) -> tuple[list[Link], Exchange]:
    """The links in use, and a ring all-reduce over these legs, between neighbours of the ring.

    Legs that use a link in the same direction share it fairly.
    """
    hops = list(dict.fromkeys(hop for leg in legs for hop in leg))
    used = list(dict.fromkeys(routes.link(hop) for hop in hops))
    return used, Exchange(
        RING.rounds(len(legs)) * max(routes.latency(leg) for leg in legs),
        RING.volume(len(legs)) * payload,
        tuple(goodput(routes.link(hop)) for hop in hops),
        tuple(tuple(hops.index(hop) for hop in leg) for leg in legs),
        tuple(used.index(routes.link(hop)) for hop in hops),
    )
