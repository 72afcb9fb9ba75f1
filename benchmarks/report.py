"""Timings as Markdown, and into the document between its markers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.measure import Timing

BEGIN = "<!-- begin: written by `python -m benchmarks` -->"
END = "<!-- end -->"
PER_STEP = ("first step, s", "further step, µs", "ns a device and step")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The first column is text, the others are numbers."""
    ruler = ["---", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in [head, ruler, *rows]]


def number(value: float) -> str:
    """Three significant digits, without powers of ten."""
    if value == 0:
        return "0"
    before_point = math.floor(math.log10(abs(value))) + 1
    return f"{round(value, 3 - before_point):,.{max(0, 3 - before_point)}f}"


def contest(timings: Sequence[Timing]) -> list[str]:
    """The fastest first, each against the first of `timings`, or the fastest if that is absent.

    Smaller fleets are extrapolated to that one's size.
    """
    ran = sorted((one for one in timings if one.furthers), key=lambda one: one.per_device_step)
    against = timings[0] if timings[0].furthers else ran[0]
    rows = [
        (
            _name(timing),
            str(timing.contender.threads),
            f"{timing.steps:,}",
            number(timing.first),
            number(timing.per_device_step * against.contender.devices * 1e6),
            number(timing.per_device_step * 1e9),
            number(timing.per_device_step / against.per_device_step),
            f"{timing.spread * 100:.0f} %",
        )
        for timing in ran
    ]
    times = "times mcsim" if against is timings[0] else "times the fastest"
    head = ["", "threads", "steps timed", *PER_STEP, times, "spread"]
    lines = table(head, rows)
    absent = [timing.contender for timing in timings if not timing.furthers]
    if absent:
        reasons = dict.fromkeys(f"{contender.name} ({contender.note})" for contender in absent)
        lines += ["", f"Did not run: {'; '.join(reasons)}."]
    return lines


def _name(timing: Timing) -> str:
    contender = timing.contender
    name = f"{contender.name}; {contender.note}" if contender.note else contender.name
    return f"*{name}*" if contender.numbers_only else name


def growth(timings: Sequence[Timing]) -> list[str]:
    """By devices and threads; the speed-up is that of the further steps."""
    single = {
        timing.contender.devices: timing.per_step
        for timing in timings
        if timing.contender.threads == 1
    }
    rows = [
        (
            f"{timing.contender.devices:,}",
            str(timing.contender.threads),
            f"{timing.steps:,}",
            number(timing.first),
            number(timing.per_step * 1e6),
            number(timing.per_device_step * 1e9),
            number(single[timing.contender.devices] / timing.per_step),
            f"{timing.spread * 100:.0f} %",
        )
        for timing in timings
    ]
    return table(["devices", "threads", "steps timed", *PER_STEP, "speed-up", "spread"], rows)


def insert(document: Path, lines: Sequence[str], preface: str) -> None:
    """Replace what stands between the markers; the rest of the document is its authors'."""
    text = document.read_text() if document.exists() else f"{preface}\n{BEGIN}\n{END}\n"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{document}: the markers {BEGIN} and {END} are missing")
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]))
