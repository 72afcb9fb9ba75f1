"""From a file, a bundled name or standard input to a Scenario."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from mcsim.errors import Problem, ScenarioError
from mcsim.scenario.decode import did_you_mean
from mcsim.scenario.lines import key_lines, line_of
from mcsim.scenario.overrides import assign, typed
from mcsim.scenario.scenario import Scenario

MAX_BYTES = 64 * 1024**2
"""A scenario of a million measured values has about 20 MB; what is larger is something else."""


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
        return parse_scenario(_text(sys.stdin.buffer, "<stdin>"), "<stdin>", Path(), settings)
    path = Path(where)
    if not path.exists():
        scenarios = bundled()
        if str(where) not in scenarios:
            near = did_you_mean(str(where), scenarios)
            message = f"no such file, nor a bundled scenario{near}; there are "
            raise ScenarioError(str(where), [Problem("", message + ", ".join(scenarios))])
        path = scenarios[str(where)]
    try:
        with path.open("rb") as file:
            text = _text(file, str(where))
    except OSError as error:
        raise ScenarioError(str(where), [Problem("", error.strerror or str(error))]) from None
    return parse_scenario(text, path.name, path.parent, settings)


def parse_scenario(
    text: str, source: str, directory: Path, settings: Mapping[str, str] | None = None
) -> Scenario:
    """The scenario that a TOML text describes; `source` is what errors call it."""
    table = _read(text, source)
    lines = key_lines(text)
    changes = {path: typed(Scenario, path, value) for path, value in (settings or {}).items()}
    try:
        return Scenario.from_dict(assign(table, changes), directory=directory)
    except ScenarioError as error:
        problems = [
            Problem(p.path, p.message, None if _is_set(p.path, changes) else line_of(lines, p.path))
            for p in error.problems
        ]
        raise ScenarioError(source, problems) from None


def _is_set(path: str, changes: Mapping[str, Any]) -> bool:
    return any(path == change or path.startswith((f"{change}.", f"{change}[")) for change in changes)


def _text(file: IO[bytes], source: str) -> str:
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        message = f"larger than {MAX_BYTES // 1024**2} MiB, which no scenario is"
        raise ScenarioError(source, [Problem("", message)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ScenarioError(source, [Problem("", "is not UTF-8 text", line)]) from None


def _read(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        message = re.sub(r" \(at .*\)$", "", str(error))
        message = f"is not TOML: {message[:1].lower()}{message[1:]}"
        if where is not None:
            message += f", at column {where[2]}"
        line = int(where[1]) if where is not None else None
        raise ScenarioError(source, [Problem("", message, line)]) from None
    except RecursionError:
        raise ScenarioError(source, [Problem("", "is nested too deeply")]) from None
    except ValueError as error:
        raise ScenarioError(source, [Problem("", f"is not TOML: {error}")]) from None
