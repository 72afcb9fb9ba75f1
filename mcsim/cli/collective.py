"""What `mcsim collective` prints: what a collective takes, by the latency-bandwidth model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import click

from mcsim.cli.quantities import MOST_RANKS
from mcsim.model.collectives import (
    AUTO,
    COLLECTIVES,
    Level,
    Phase,
    choice_of,
    hierarchical,
    phase,
)
from mcsim.suggest import did_you_mean
from mcsim.tables import table
from mcsim.units import show

_TIMES = ["rounds", "latency", "bandwidth", "total"]


def among_all(collective: str, name: str | None, at: Level, payload: float) -> str:
    """A collective of all ranks, by each of its algorithms, or by the one of a name.

    payload: bytes. Raises click.BadParameter for an unknown collective or algorithm.
    """
    _require_known(collective, name)
    names = list(COLLECTIVES[collective]) if name is None else [name]
    rows = []
    for one in names:
        found = phase(collective, one, at, payload, level="")
        rows.append([found.algorithm, *_times([found])])
    lines = [
        f"{collective} of {show(payload, 'data')}: {_described(at)}",
        "",
        table(["algorithm", *_TIMES], rows),
    ]
    if at.ranks > 1:
        taken = phase(collective, AUTO, at, payload, level="").algorithm
        choice = _listed([one.name for one in choice_of(collective)])
        lines += ["", f"auto takes {taken}, the shortest of {choice}"]
    return "\n".join(lines)


def level_by_level(
    collective: str, name: str | None, levels: Sequence[Level], payload: float
) -> str:
    """A hierarchical all-reduce, phase by phase, beside the flat ring of all ranks.

    levels: from the innermost outwards. name: of the algorithm at every level. payload: bytes.
    Raises click.BadParameter for an unknown collective or algorithm, and too many ranks.
    """
    _require_known(collective, name)
    if collective != "all-reduce":
        raise _bad("--level", f"only an all-reduce goes level by level, {collective} does not")
    ranks = math.prod(at.ranks for at in levels)
    if ranks > MOST_RANKS:
        raise _bad("--level", f"{ranks:,} ranks in all; at most {MOST_RANKS:,}")
    phases = hierarchical(levels, payload, [name or AUTO] * len(levels))
    rows = [
        [str(int(one.level) + 1), one.collective, one.algorithm, *_times([one])] for one in phases
    ]
    flat = phase("all-reduce", "ring", levels[-1]._replace(ranks=ranks), payload, level="")
    totals = [
        ["level by level", *_times(phases)],
        [f"flat ring of {ranks:,} over level {len(levels)}", *_times([flat])],
    ]
    return "\n".join(
        [
            f"all-reduce of {show(payload, 'data')}: {ranks:,} rank(s), level by level",
            *(f"level {number}: {_described(at)}" for number, at in enumerate(levels, start=1)),
            "",
            table(["level", "collective", "algorithm", *_TIMES], rows, left=(0, 1, 2)),
            "",
            table(["in all", *_TIMES], totals),
        ]
    )


def _described(at: Level) -> str:
    latency, bandwidth = show(at.latency, "time"), show(at.bandwidth, "rate")
    return f"{at.ranks:,} rank(s), {latency} a message, {bandwidth} a rank"


def _times(phases: Sequence[Phase]) -> list[str]:
    return [
        f"{sum(one.rounds for one in phases):,}",
        show(sum(one.of_latency for one in phases), "time"),
        show(sum(one.of_bandwidth for one in phases), "time"),
        show(sum(one.seconds for one in phases), "time"),
    ]


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _require_known(collective: str, name: str | None) -> None:
    if collective not in COLLECTIVES:
        meant = did_you_mean(collective, COLLECTIVES)
        known = _listed(list(COLLECTIVES))
        raise _bad("COLLECTIVE", f'there is no "{collective}"{meant}; there are {known}')
    algorithms = [AUTO, *COLLECTIVES[collective]]
    if name is not None and name not in algorithms:
        meant = did_you_mean(name, algorithms)
        message = f'{collective} has no "{name}"{meant}; it has {_listed(algorithms)}'
        raise _bad("--algorithm", message)


def _bad(option: str, message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint=f"'{option}'")
