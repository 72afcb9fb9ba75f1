"""From a file, a bundled name or standard input to a Scenario."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcsim.errors import Problem, ScenarioError
from mcsim.scenario.lines import Origin, key_lines
from mcsim.scenario.overrides import assign, typed
from mcsim.scenario.scenario import Scenario
from mcsim.suggest import did_you_mean

MAX_BYTES = 64 * 1024**2
"""A scenario of a million measured values has about 20 MB; what is larger is something else."""

MAX_DEPTH = 100
"""Tables within tables; mixtures of mixtures are the deepest that scenarios have."""


def bundled() -> dict[str, Path]:
    """The scenarios that come with mcsim: name -> file."""
    package = Path(__file__).resolve().parents[1]
    # A wheel carries them inside the package, a checkout beside it.
    directory = package / "runs" if (package / "runs").is_dir() else package.parent / "runs"
    return {path.stem: path for path in sorted(directory.glob("*.toml"))}


def load_scenario(where: str | Path, settings: Mapping[str, str] | None = None) -> Scenario:
    """The scenario in a TOML file, of a bundled name, or on standard input (`-`).

    settings: key paths and their new values as text, as `--set` takes them.
    Raises ScenarioError with every problem there is.
    """
    if str(where) == "-":
        if sys.stdin is None:
            raise ScenarioError("<stdin>", [Problem("", "is closed")])
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
        return parse_scenario(_text(data, "<stdin>"), "<stdin>", Path(), settings)
    scenarios = bundled()
    path = Path(where)
    try:
        if str(where) in scenarios and not path.exists():
            path = scenarios[str(where)]
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        near = did_you_mean(str(where), scenarios)
        message = f"no such file, nor a bundled scenario{near}; there are {', '.join(scenarios)}"
        raise ScenarioError(str(where), [Problem("", message)]) from None
    except (OSError, ValueError) as error:
        message = getattr(error, "strerror", None) or str(error)
        raise ScenarioError(str(where), [Problem("", message)]) from None
    return parse_scenario(_text(data, path.name), path.name, path.parent, settings)


def parse_scenario(
    text: str, source: str, directory: Path, settings: Mapping[str, str] | None = None
) -> Scenario:
    """The scenario that a TOML text describes; `source` is what errors call it."""
    table = _read(text, source)
    lines = key_lines(text)
    said = {path: _said(path, value) for path, value in (settings or {}).items()}
    try:
        changes = {path: typed(Scenario, path, value) for path, value in (settings or {}).items()}
        table, changed = assign(table, changes)
    except ScenarioError as error:
        problems = [replace(one, setting=said.get(one.path)) for one in error.problems]
        raise ScenarioError(source, problems) from None
    origin = Origin(source, lines, {place: said[path] for place, path in changed.items()})
    try:
        scenario = Scenario.from_dict(table, directory=directory)
    except ScenarioError as error:
        raise origin.error(error.problems) from None
    # Not a field: where it was read from does not make it another scenario.
    object.__setattr__(scenario, "origin", origin)
    return scenario


_LONGEST_SAID = 80


def _said(path: str, value: str) -> str:
    """A setting as it was given, on one line and not too long for it."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in f"--set {path}={value}")
    return text if len(text) <= _LONGEST_SAID else f"{text[: _LONGEST_SAID - 3]}..."


def _too_deep(value: object, levels: int = MAX_DEPTH) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_too_deep(item, levels - 1) for item in inner)


def _text(data: bytes, source: str) -> str:
    if len(data) > MAX_BYTES:
        message = f"larger than {MAX_BYTES // 1024**2} MiB, which no scenario is"
        raise ScenarioError(source, [Problem("", message)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ScenarioError(source, [Problem("", "is not UTF-8 text", line)]) from None


def _read(text: str, source: str) -> dict[str, Any]:
    line = None
    try:
        table = tomllib.loads(text)
        if not _too_deep(table):
            return table
        message = "is nested too deeply"
    except RecursionError:
        message = "is nested too deeply"
    except tomllib.TOMLDecodeError as error:
        message, _, where = str(error).rpartition(" (at ")
        message = f"is not TOML: {message[:1].lower()}{message[1:]}"
        place = re.fullmatch(r"line (\d+), column (\d+)\)", where)
        line = int(place[1]) if place is not None else text.count("\n") + 1
        message += f", at column {place[2]}" if place is not None else ", at the end"
    except ValueError:
        # The only other one: Python reads no integers of more digits.
        message = f"has a whole number of more than {sys.get_int_max_str_digits()} digits"
    raise ScenarioError(source, [Problem("", message, line)])
