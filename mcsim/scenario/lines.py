"""Where each key of a TOML text stands, so that a problem can name its line.

The text has been read by tomllib before, so it is known to be valid TOML; this scanner only
follows its structure and keeps no values.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mcsim.errors import Problem, ScenarioError
from mcsim.scenario.paths import join, quoted

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_STRINGS = (
    re.compile(r'"""(?:\\.|[^\\])*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:\\.|[^"\\])*"'),
    re.compile(r"'[^']*'"),
)


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[str, int] = {}
        self._counted = 0
        self._line = 1

    def line(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
        return match.group()

    def takes(self, token: str) -> bool:
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def string(self) -> str | None:
        for pattern in _STRINGS:
            match = pattern.match(self.text, self.at)
            if match is not None:
                self.at = match.end()
                return match.group()
        return None

    def key(self) -> list[str]:
        """A dotted key, split."""
        parts = []
        while True:
            self.skip(_SPACE)
            quoted = self.string()
            if quoted is None:
                parts.append(self.skip(_BARE))
            else:
                parts.append(tomllib.loads(f"key = {quoted}")["key"])
            self.skip(_SPACE)
            if not self.takes("."):
                return parts

    def value(self, path: str) -> None:
        if self.takes("["):
            index = 0
            while True:
                self.skip(_BLANK)
                if self.takes("]"):
                    return
                self.lines[f"{path}[{index}]"] = self.line()
                self.value(f"{path}[{index}]")
                index += 1
                self.skip(_BLANK)
                self.takes(",")
        elif self.takes("{"):
            while True:
                self.skip(_BLANK)
                if self.takes("}"):
                    return
                self.pair(path)
                self.skip(_BLANK)
                self.takes(",")
        elif self.string() is None:
            self.skip(_SCALAR)

    def pair(self, table: str) -> None:
        line = self.line()
        path = table
        for part in self.key():
            path = join(path, quoted(part))
            self.lines.setdefault(path, line)
        self.takes("=")
        self.skip(_SPACE)
        self.value(path)

    def header(self, tables: Counter[str]) -> str:
        line = self.line()
        array = self.takes("[[") or not self.takes("[")
        path = ""
        parts = self.key()
        for depth, part in enumerate(parts):
            path = join(path, quoted(part))
            self.lines.setdefault(path, line)
            if array and depth == len(parts) - 1:
                tables[path] += 1
            if path in tables:
                path = f"{path}[{tables[path] - 1}]"
                self.lines.setdefault(path, line)
        self.takes("]")
        self.takes("]")
        # A table may stand below one of its own tables: `[a.b]`, then `[a]`.
        self.lines[path] = line
        return path


def key_lines(text: str) -> dict[str, int]:
    """The line, counted from 1, of every key path such as `fleet[2].jitter.step.alpha`.

    text: valid TOML.
    """
    scanner = _Scanner(text)
    tables: Counter[str] = Counter()
    table = ""
    while True:
        scanner.skip(_BLANK)
        if scanner.at >= len(text):
            return scanner.lines
        if text[scanner.at] == "[":
            table = scanner.header(tables)
        else:
            scanner.pair(table)


def line_of(lines: dict[str, int], path: str) -> int | None:
    """The line of `path`, or of the innermost table around it that stands in the text."""
    while path not in lines:
        cut = max(path.rfind("."), path.rfind("["))
        if cut < 0:
            return None
        path = path[:cut]
    return lines[path]


@dataclass(frozen=True)
class Origin:
    """What a scenario was read from. lines: of its keys. changed: paths that stand in no file, and
    what set them, as `--set run.steps=0`."""

    source: str
    lines: dict[str, int]
    changed: Mapping[str, str]

    def error(self, problems: Iterable[Problem]) -> ScenarioError:
        """The error that these are wrong, each with its line where it has one."""
        return ScenarioError(self.source, [self._located(problem) for problem in problems])

    def _located(self, problem: Problem) -> Problem:
        path = problem.path
        for place, setting in self.changed.items():
            if path == place or path.startswith((f"{place}.", f"{place}[")):
                return Problem(path, problem.message, setting=setting)
        return Problem(path, problem.message, line_of(self.lines, path))
