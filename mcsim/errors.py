"""The exception types that mcsim raises on purpose. Whatever else escapes is a defect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class McsimError(Exception):
    """Something went wrong that the user can understand and act upon."""


class UnitError(McsimError, ValueError):
    """A quantity could not be read: no unit, an unknown one, or one of another dimension."""


class ResultError(McsimError):
    """A result file could not be written or read."""


class SimulationError(McsimError, ArithmeticError):
    """Step times left the range of numbers in which they can be averaged."""


class NobodyLeftError(SimulationError):
    """A remedy leaves out all devices of a site."""


class TargetError(McsimError):
    """What a run is to be computed on is not there, or fails."""


class WorkersError(McsimError):
    """The workers of a run cannot be had, or are lost again and again."""


class SelfCheckWarning(UserWarning):
    """The two engines disagree on a scenario: its result must not be trusted."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a scenario.

    path: where in the scenario, as `fleet[2].jitter.step.alpha`; empty for the whole file.
    message: what is wrong, with the value, the bound and, where there is one, a suggestion.
    line: line of the file, counted from 1, where it is known. setting: what said it instead of the
    file, as `--set run.steps=0`.
    """

    path: str
    message: str
    line: int | None = None
    setting: str | None = None

    def describe(self, source: str) -> str:
        """`three-campus.toml:31: fleet[2].jitter.step.alpha: 0.8 must be above 1`."""
        place = source if self.line is None else f"{source}:{self.line}"
        place = place if self.setting is None else self.setting
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ScenarioError(McsimError, ValueError):
    """A scenario is wrong; `problems` lists everything that is, in the order of the file."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(sorted(problems, key=lambda p: (p.line is None, p.line or 0)))
        super().__init__("\n".join(problem.describe(source) for problem in self.problems))
