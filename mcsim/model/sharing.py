"""Which messages are delayed together: those of a node, of a rack, of a site.

Ranks are not independent: a switch, a host or a spine that is late makes all of its messages late,
and the slowest of them is then less far out than as many independent draws of the same law would
put it. A message's delay is its own, and that of its node, of its rack and of its site, each drawn
once a round.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mcsim.laws import Constant, Law
from mcsim.model.plan import Messages, SitePlan, Unit
from mcsim.scenario.network import NodeLevel, SiteLevel


@dataclass(frozen=True)
class _Senders:
    """participants: that share nothing. units: those that do, and how many of each kind."""

    participants: int
    units: tuple[tuple[Unit, int], ...] = ()


class Members(NamedTuple):
    """Ranks of a collective at a site, alike.

    in_node: how many in each of the nodes, which join them at `scale_up`, byte/s. ranks: all
    together, where the last node may lack some. nodes_per_rack: that hold any of them. full:
    whether there is a node that lacks none of its devices.
    """

    in_node: int
    nodes: int
    ranks: int
    nodes_per_rack: int
    scale_up: float
    full: bool = True


def messages_of(
    level: str,
    network: NodeLevel | SiteLevel,
    site: SitePlan,
    members: Sequence[Members],
    alike: int = 1,
) -> Messages | None:
    """The messages of a round inside a site, of devices ("node") or of nodes ("site").

    alike: so many collectives go on side by side. None where nothing delays them. Nodes and racks
    that are partly filled have fewer messages.
    """
    shared = _shared(network)
    racks = []
    for one in members:
        if level == "site":
            node = _Senders(alike)
            racks += _racks(one.nodes, one.nodes_per_rack, node, None, shared["rack"])
        elif one.in_node > 1:
            racks += _racks_of_devices(one, alike, shared["node"], shared["rack"])
    return _messages(level, network, site, racks)


def messages_of_a_node(
    level: str, network: NodeLevel | SiteLevel, site: SitePlan, number: int
) -> Messages | None:
    """Some messages that are sent side by side by one node; None where nothing delays them."""
    shared = _shared(network)
    node = _together("node", shared["node"], [(_Senders(number), 1)])
    return _messages(level, network, site, [(_together("rack", shared["rack"], [(node, 1)]), 1)])


def _shared(network: NodeLevel | SiteLevel) -> dict[str, Law | None]:
    return {name: getattr(network, f"shared_{name}", None) for name in ("node", "rack", "site")}


def _messages(
    level: str,
    network: NodeLevel | SiteLevel,
    site: SitePlan,
    racks: Iterable[tuple[_Senders, int]],
) -> Messages | None:
    shared = _shared(network)
    if network.delay is None and not any(shared.values()):
        return None
    found = _together("site", shared["site"], racks)
    own = network.delay or Constant(0.0)
    return Messages(level, site.identity, own, found.participants, found.units)


def _racks_of_devices(
    members: Members, alike: int, node: Law | None, rack: Law | None
) -> list[tuple[_Senders, int]]:
    full, rest = divmod(members.ranks, members.in_node)
    whole = _together("node", node, [(_Senders(alike), members.in_node)])
    last = _together("node", node, [(_Senders(alike), rest)]) if rest else None
    return _racks(full, members.nodes_per_rack, whole, last, rack)


def _racks(
    nodes: int, each: int, node: _Senders, last: _Senders | None, law: Law | None
) -> list[tuple[_Senders, int]]:
    """Racks of so many like nodes each, and of what is over, with `last` at the end."""
    full, rest = divmod(nodes, each)
    over = [(node, rest)] if rest else []
    over += [(last, 1)] if last is not None else []
    racks = [(_together("rack", law, [(node, each)]), full)] if full else []
    return racks + ([(_together("rack", law, over), 1)] if over else [])


def _together(name: str, law: Law | None, members: Iterable[tuple[_Senders, int]]) -> _Senders:
    """Some senders and how many like each, as a unit that shares a delay, if there is one."""
    participants = 0
    units: dict[Unit, int] = {}
    for senders, number in members:
        participants += senders.participants * number
        for unit, inside in senders.units:
            units[unit] = units.get(unit, 0) + inside * number
    if law is None:
        return _Senders(participants, tuple(units.items()))
    return _Senders(0, ((Unit(name, law, participants, tuple(units.items())), 1),))
