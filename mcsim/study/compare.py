"""Remedies compared on the same clusters: what each returns, with paired intervals.

All random numbers have addresses, so a remedy draws neither the cluster nor its jitter anew: what
differs between two remedies is what they do, and the error of their difference is small. Only what
is given in time is looked at once a step, and so anew where a remedy changes how long an
undisturbed step takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from mcsim.engine import simulate
from mcsim.errors import NobodyLeftError, Problem, ScenarioError
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
from mcsim.threads import available_threads

_FIXED = ("run", "name", "workload.compute", "workload.reference", "workload.model", "prices")
"""What a comparison is of, so that no remedy changes it."""
_JOINED = re.compile(r"\+(?=[A-Za-z]|$)")
"""Between remedies; not in numbers as 1e+3."""
NONE = "none"
"""The name of the scenario as it is."""
_PILOT_STEPS, _PILOT_REPLICATES = 64, 4
"""Of each number that is tried where the best is looked for."""
_DOUBLINGS = 4
"""Numbers that are tried at a time, each twice the one before."""
_BETWEEN = 7
"""Numbers that are tried at a time between two that enclose the best."""


Applied = tuple[Scenarios, list[Remedy]]
"""What remedies make of a scenario, and the remedies."""


@dataclass(frozen=True)
class Variant:
    """A scenario with remedies, whose names are joined by "+". scenarios: side by side."""

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
    if names is None:
        chosen = dict(_all(scenario))
    else:
        # All are looked at before the first of them takes its time.
        chosen = {name: _require(scenario, name) for name in names if name != NONE}
    chosen = {NONE: ((scenario,), [])} | chosen
    cost, outcomes = cost_of(scenario), list[Outcome]()
    for done, (name, (scenarios, used)) in enumerate(chosen.items()):
        if progress is not None:
            progress(done, len(chosen))
        outcomes.append(_outcome(_tuned(name, scenarios, used, threads), threads))
    if progress is not None:
        progress(len(chosen), len(chosen))
    return label_comparison(scenario, outcomes, cost)


def applicable(scenario: Scenario) -> Iterator[str]:
    """The names of the remedies, and the chosen combinations, that a scenario has a place for."""
    return (name for name, _ in _all(scenario))


def _all(scenario: Scenario) -> Iterator[tuple[str, Applied]]:
    for name in [*(remedy.name for remedy in remedies_of(scenario)), *COMBINATIONS]:
        with suppress(InapplicableError, ScenarioError):
            yield name, _applied(scenario, name)


def require_remedies(scenario: Scenario, names: Sequence[str]) -> None:
    """Raise ScenarioError for a remedy that is not known or does not apply."""
    sampled(scenario, "compare")
    for name in names:
        if name != NONE:
            _require(scenario, name)


def variant_of(scenario: Scenario, name: str, threads: int | None = None) -> Variant:
    """The variant of a name, its best numbers found. Raises ScenarioError."""
    return _tuned(name, *_require(scenario, name), threads)


def _tuned(name: str, scenarios: Scenarios, used: Sequence[Remedy], threads: int | None) -> Variant:
    """The variant whose numbers are found that remedies leave open."""
    said = [remedy.description for remedy in used] or ["as it is"]
    for remedy in used:
        if remedy.tuned is not None:
            # Of islands each has its own: their throughputs add up.
            tuned = [remedy.tuned(one) for one in scenarios]
            changes = [
                how.changes(_best(one, how, threads))
                for one, how in zip(scenarios, tuned, strict=True)
            ]
            pairs = zip(scenarios, changes, strict=True)
            scenarios = tuple(one.replace(change) for one, change in pairs)
            found = ", ".join(f"{value:,}" for change in changes for value in change.values())
            said.append(f"{tuned[0].path} = {found}")
    return Variant(name, "; ".join(said), scenarios)


def _require(scenario: Scenario, name: str) -> Applied:
    """As `_applied`. Raises ScenarioError where a remedy does not apply."""
    try:
        return _applied(scenario, name)
    except InapplicableError as reason:
        raise scenario.error([Problem("", f"the remedy {name} does not apply: {reason}")]) from None


def _applied(scenario: Scenario, name: str) -> Applied:
    """What the remedies of a name make of a scenario, without numbers that are to be found."""
    known = {remedy.name: remedy for remedy in remedies_of(scenario)}
    used = [
        known[part] if part in known else _by_keys(scenario, part, known)
        for part in _JOINED.split(name)
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
    parts = [part.partition("=") for part in text.split(";")]
    settings = {key.strip(): value.strip() for key, _, value in parts}
    problems = [
        Problem("", f'{key.strip() or text!r} in the remedy "{text}" is no key=value')
        for key, equals, _ in parts
        if not equals
    ]
    problems += [
        Problem(
            key,
            f'is not what a remedy can change, in "{text}": the cluster, its steps and its'
            " work stay the same",
        )
        for key in settings
        if key.startswith(_FIXED) or key.endswith((".name", ".count"))
    ]
    if problems:
        raise scenario.error(problems)

    def change(before: Scenario) -> Scenarios:
        return (parse_scenario(before.to_toml(), before.name, Path(), settings),)

    return Remedy(text, "as given", change)


def _best(scenario: Scenario, tuned: Tuned, threads: int | None) -> int:
    """The number with the largest throughput on the first clusters.

    By doubling, and then between the neighbours of the best: right where there is one peak.
    """
    known: dict[int, float] = {}

    def look_at(numbers: Sequence[int]) -> None:
        fresh = [number for number in numbers if number not in known]
        with ThreadPoolExecutor(threads or available_threads(), "mcsim") as pool:
            found = pool.map(lambda one: _throughput(scenario, tuned.changes(one)), fresh)
            known.update(zip(fresh, found, strict=True))

    numbers = [0]
    while numbers[-1] < tuned.most:
        for _ in range(_DOUBLINGS):
            numbers.append(min(tuned.most, max(1, 2 * numbers[-1])))
        look_at(list(dict.fromkeys(numbers)))
        best = max(known.values())
        if all(known[one] < 0.98 * best for one in numbers[-_DOUBLINGS:]):
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


def _throughput(scenario: Scenario, changes: dict[str, int]) -> float:
    """On the first clusters; none where a site would have nobody left."""
    run = replace(
        scenario.run,
        steps=min(scenario.run.steps, _PILOT_STEPS),
        replicates=min(scenario.run.replicates, _PILOT_REPLICATES),
    )
    changed = replace(scenario, run=run).replace(changes)
    try:
        tally = simulate(lower(changed), threads=1)
    except NobodyLeftError:
        return 0.0
    return float(outcome_of("", "", [(changed, tally)]).throughput.mean())


def _outcome(variant: Variant, threads: int | None) -> Outcome:
    runs = [(one, simulate(lower(one), threads=threads)) for one in variant.scenarios]
    return outcome_of(variant.name, variant.description, runs)
