"""Remedies compared on the same clusters: what each returns, with paired intervals.

All random numbers have addresses, so a remedy draws neither the cluster nor its steps anew: what
differs between two remedies is what they do, and the error of their difference is small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from mcsim.engine import simulate
from mcsim.errors import Problem, ScenarioError
from mcsim.model import lower
from mcsim.model.economics import cost_of
from mcsim.results import Outcome, label_comparison, outcome_of
from mcsim.scenario import Scenario, parse_scenario
from mcsim.study.remedies import (
    COMBINATIONS,
    InapplicableError,
    Remedy,
    Scenarios,
    Tuned,
    remedies_of,
)
from mcsim.study.sampling import sampled
from mcsim.suggest import did_you_mean

NONE = "none"
"""The name of the scenario as it is."""
_PILOT_STEPS, _PILOT_REPLICATES = 64, 4
"""Of each number that is tried where the best is looked for."""
_BETWEEN = 7
"""Numbers that are tried at a time between two that enclose the best."""


@dataclass(frozen=True)
class Variant:
    """A scenario with remedies. parts: their names joined by "+". scenarios: side by side."""

    name: str
    description: str
    scenarios: Scenarios


def compare(
    scenario: Scenario,
    names: Sequence[str] | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """What each remedy returns: a Dataset over `remedy`, whose first is the scenario as it is.

    names: of remedies, several joined by "+", or keys as "sync.inner_steps=8;sync.policy=diloco";
    default: all that apply. progress: called with the remedies done and all.
    Raises ScenarioError for a name that is not known or does not apply, and SimulationError.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    scenario = sampled(scenario, "compare")
    chosen = list(applicable(scenario)) if names is None else list(dict.fromkeys(names))
    require_remedies(scenario, chosen)
    cost, outcomes = cost_of(scenario), list[Outcome]()
    for done, name in enumerate([NONE, *chosen]):
        if progress is not None:
            progress(done, len(chosen) + 1)
        variant = variant_of(scenario, name, threads)
        outcomes.append(_outcome(variant, threads))
    if progress is not None:
        progress(len(chosen) + 1, len(chosen) + 1)
    return label_comparison(scenario, outcomes, cost)


def applicable(scenario: Scenario) -> Iterator[str]:
    """The names of the remedies, and the chosen combinations, that a scenario has a place for."""
    for name in [*(remedy.name for remedy in remedies_of(scenario)), *COMBINATIONS]:
        try:
            _applied(scenario, name)
        except (InapplicableError, ScenarioError):
            continue
        yield name


def require_remedies(scenario: Scenario, names: Sequence[str]) -> None:
    """Raise ScenarioError for a remedy that is not known or does not apply.

    All are looked at before the first of them takes its time.
    """
    sampled(scenario, "compare")
    for name in names:
        _require(scenario, name)


def variant_of(scenario: Scenario, name: str, threads: int | None = None) -> Variant:
    """The variant of a name, its best numbers found. Raises ScenarioError."""
    if name == NONE:
        return Variant(NONE, "as it is", (scenario,))
    scenarios, used = _require(scenario, name)
    said = [remedy.description for remedy in used]
    for remedy in used:
        if remedy.tuned is not None:
            tuned = remedy.tuned(scenarios[0])
            changes = tuned.changes(_best(scenarios, tuned, threads))
            scenarios = tuple(one.replace(changes) for one in scenarios)
            said += [f"{path} = {value:,}" for path, value in changes.items()]
    return Variant(name, "; ".join(said), scenarios)


def _require(scenario: Scenario, name: str) -> tuple[Scenarios, list[Remedy]]:
    """As `_applied`. Raises ScenarioError where a remedy does not apply."""
    try:
        return _applied(scenario, name)
    except InapplicableError as reason:
        raise scenario.error([Problem("", f"the remedy {name} does not apply: {reason}")]) from None


def _applied(scenario: Scenario, name: str) -> tuple[Scenarios, list[Remedy]]:
    """What the remedies of a name make of a scenario, without numbers that are to be found."""
    known = {remedy.name: remedy for remedy in remedies_of(scenario)}
    used = [
        known[part] if part in known else _by_keys(scenario, part, known)
        for part in name.split("+")
    ]
    scenarios: Scenarios = (scenario,)
    for remedy in used:
        scenarios = tuple(after for before in scenarios for after in remedy.change(before))
    for one in scenarios:
        lower(one)
    return scenarios, used


def _by_keys(scenario: Scenario, text: str, known: dict[str, Remedy]) -> Remedy:
    """A remedy that is given as new values of keys: "sync.inner_steps=8;sync.policy=diloco"."""
    if "=" not in text:
        near = did_you_mean(text, known)
        message = f'unknown remedy "{text}"{near}; `mcsim list remedies` shows them, and'
        raise scenario.error([Problem("", f"{message} key=value is one too")])
    settings = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    settings = {key.strip(): value.strip() for key, value in settings.items()}

    def change(before: Scenario) -> Scenarios:
        return (parse_scenario(before.to_toml(), before.name, Path(), settings),)

    return Remedy(text, "as given", change)


def _best(scenarios: Scenarios, tuned: Tuned, threads: int | None) -> int:
    """The number with the largest throughput on the first clusters.

    By doubling, and then between the neighbours of the best: right where there is one peak.
    """
    known: dict[int, float] = {}

    def look_at(numbers: Sequence[int]) -> None:
        for number in numbers:
            if number not in known:
                known[number] = _throughput(scenarios, tuned.changes(number), threads)

    numbers = [0]
    while numbers[-1] < tuned.most:
        numbers.append(min(tuned.most, max(1, 2 * numbers[-1])))
        look_at(numbers)
        best = max(known.values())
        if len(numbers) > 3 and all(known[one] < 0.98 * best for one in numbers[-3:]):
            break
    look_at(numbers)
    while True:
        best_number = max(known, key=known.__getitem__)
        tried = sorted(known)
        at = tried.index(best_number)
        low, high = tried[max(at - 1, 0)], tried[min(at + 1, len(tried) - 1)]
        between = sorted(set(np.linspace(low, high, _BETWEEN + 2).round().astype(int).tolist()))
        fresh = [number for number in between if number not in known]
        # A hundredth part of the number more or less does not matter.
        if not fresh or high - low <= max(1, best_number // 50):
            return best_number
        look_at(fresh)


def _throughput(scenarios: Scenarios, changes: dict[str, int], threads: int | None) -> float:
    total = 0.0
    for one in scenarios:
        run = replace(
            one.run,
            steps=min(one.run.steps, _PILOT_STEPS),
            replicates=min(one.run.replicates, _PILOT_REPLICATES),
        )
        changed = replace(one, run=run).replace(changes)
        tally = simulate(lower(changed), threads=threads)
        total += float(outcome_of("", "", [(changed, tally)]).throughput.mean())
    return total


def _outcome(variant: Variant, threads: int | None) -> Outcome:
    runs = [(one, simulate(lower(one), threads=threads)) for one in variant.scenarios]
    return outcome_of(variant.name, variant.description, runs)
