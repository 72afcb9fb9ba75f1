"""The `[remedy]` table: what is done about slow devices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mcsim import fields
from mcsim.scenario.decode import UNREADABLE
from mcsim.scenario.part import LONGEST, MAX_COUNT, Part


@dataclass(frozen=True)
class Remedy(Part):
    """What is done about slow devices of the drawn cluster, which stays the same."""

    shares: str = fields.choice(
        "of the work of a step: `equal`; `group`, by the undisturbed speed of each group; `device`,"
        " by the speed of each device, as it was drawn",
        ("equal", "group", "device"),
        default="equal",
    )
    microbatches: int | None = fields.integer(
        "that a device has in a step, on average, where shares are whole numbers of them; absent:"
        " shares are real numbers",
        default=None,
        at_least=1,
        at_most=100_000,
    )
    most_share: float | None = fields.quantity(
        "of the work of a device, over the average, for which its memory has room; absent: any",
        None,
        default=None,
        at_least=1,
        reason="with less there is no room for all of the work",
    )
    drop_devices: int = fields.integer(
        "the slowest of the fleet that are left out", default=0, at_least=0, at_most=MAX_COUNT
    )
    drop_nodes: int = fields.integer(
        "the slowest of the fleet, by their slowest device, that are left out",
        default=0,
        at_least=0,
        at_most=MAX_COUNT,
    )
    spares: float = fields.quantity(
        "nodes of each group that are there besides its count, over those that it needs; the"
        " slowest stay idle",
        None,
        default=0.0,
        at_least=0,
        at_most=10,
    )
    evict_after: float | None = fields.quantity(
        "until a device that is in a slow state is found and another is in its place",
        "time",
        default=None,
        above=0,
        at_most=LONGEST,
    )
    swap_cost: float = fields.quantity(
        "that the whole job waits for each device that is replaced",
        "time",
        default=0.0,
        at_least=0,
        at_most=LONGEST,
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        if self.shares == "equal":
            for key in ("microbatches", "most_share"):
                if getattr(self, key) not in (None, UNREADABLE):
                    yield key, 'changes nothing with equal shares; take shares = "device"'
        if self.evict_after is None and self.swap_cost not in (0.0, UNREADABLE):
            yield "swap_cost", "changes nothing: nobody is replaced without `evict_after`"
