"""What a run has done so far, and from what: a whole result, a shard, or a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from mcsim.engine.selfcheck import SelfCheck
from mcsim.engine.tally import Tally
from mcsim.errors import ResultError
from mcsim.model.choice import Choice
from mcsim.model.plan import Plan
from mcsim.scenario import Scenario


@dataclass(frozen=True)
class Cost:
    """What a run took, all parts together.

    threads: at most so many at once. wall, cpu: ms. finished: when, in UTC, as ISO 8601 has it.
    targets: what it was computed on, as "cpu, cuda".
    """

    threads: int = 0
    wall: int = 0
    cpu: int = 0
    finished: str = ""
    targets: str = ""

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            max(self.threads, other.threads),
            self.wall + other.wall,
            self.cpu + other.cpu,
            max(self.finished, other.finished),
            ", ".join(sorted({*_names(self.targets), *_names(other.targets)})),
        )


def _names(targets: str) -> list[str]:
    return [name for name in targets.split(", ") if name]


@dataclass(frozen=True)
class Part:
    """Some or all steps of a run.

    choice: the engine. check: the engines' comparison; None where it was left to another part.
    shards: the number of each that it is made of, and of how many, if the run was divided.
    """

    scenario: Scenario
    tally: Tally
    choice: Choice
    cost: Cost
    check: SelfCheck | None = None
    shards: tuple[tuple[int, int], ...] = ()

    @property
    def plan(self) -> Plan:
        """Of the whole run; where it goes on until a target is reached, as far as it is known."""
        return self.tally.plan

    @property
    def steps(self) -> int:
        """How many are done, of all clusters."""
        return self.tally.steps

    @property
    def is_complete(self) -> bool:
        """Whether a result can be made of it."""
        return self.check is not None and self.tally.is_complete

    def joined(self, other: Part) -> Part:
        """Both parts of the same run; in which order does not matter.

        Raises OverlapError, and ResultError for parts of different engines.
        """
        if self.choice.engine != other.choice.engine:
            raise ResultError(
                f"is from the {other.choice.engine} engine ({other.choice.reason}), and others are"
                f" from the {self.choice.engine} one; run all with the same --engine"
            )
        tally = Tally(self.plan)
        for one in (self.tally, other.tally):
            for replicate, parts in one.sums.items():
                tally.add(replicate, parts)
        return Part(
            self.scenario,
            tally,
            self.choice,
            self.cost + other.cost,
            self.check or other.check,
            tuple(sorted({*self.shards, *other.shards})),
        )
