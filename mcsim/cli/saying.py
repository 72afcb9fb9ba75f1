"""What is said beside the output, on standard error; and with what codes commands end."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

FAILED = 1
USAGE = 2


def say(text: str) -> None:
    """Write a line; where it cannot be written, as a log that nobody reads must not end a run."""
    try:
        click.echo(text, err=True)
    except OSError:
        # What is left in the buffer would fail again at the end, and change the exit code.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


class Failure(click.ClickException):
    """A message on standard error and an exit code; no traceback."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]

    def show(self, file: Any = None) -> None:
        say(self.message)
