"""What studies of the same draws ask of a scenario."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mcsim.errors import Problem
from mcsim.scenario import Scenario


def sampled(scenario: Scenario, study: str) -> Scenario:
    """The scenario, sampled on the processor, as many steps as it says, without their series.

    study: its name, for the error. Raises ScenarioError where it asks for something else.
    """
    problems = list(_problems(scenario, study))
    if problems:
        raise scenario.error(problems)
    return replace(scenario, run=replace(scenario.run, engine="sampled", keep="summary"))


def _problems(scenario: Scenario, study: str) -> Iterator[Problem]:
    run = scenario.run
    message = f"{study} samples, on the processor; take this away"
    if run.engine == "exact":
        yield Problem("run.engine", message)
    if run.target == "cuda":
        yield Problem("run.target", message)
    if run.target_relative_error is not None:
        message = f"{study} takes the steps and replicates that are given; take this away"
        yield Problem("run.target_relative_error", message)
