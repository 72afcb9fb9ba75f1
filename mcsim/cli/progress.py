"""A progress line that redraws on a terminal and prints sparsely in a batch log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self, TextIO

_REDRAW_SECONDS = 0.1
_LOG_SECONDS = 30.0


class ProgressLine:
    """Writes to `stream` how far a run is. On a terminal one line; elsewhere one in 30 s."""

    def __init__(self, stream: TextIO | None, unit: str = "steps") -> None:
        self._stream, self._unit = stream, unit
        self._terminal = stream is not None and stream.isatty()
        self._start = self._written = time.monotonic()
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._width:
            self._write("\r" + " " * self._width + "\r")

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` steps are done."""
        now = time.monotonic()
        wait = _REDRAW_SECONDS if self._terminal else _LOG_SECONDS
        if now - self._written < wait:
            return
        self._written = now
        left = (now - self._start) / done * (total - done)
        text = (
            f"{done:,} of {total:,} {self._unit} ({100 * done / total:.0f} %), {_span(left)} left"
        )
        if self._terminal:
            self._write("\r" + text.ljust(self._width))
            self._width = max(self._width, len(text))
        else:
            self._write(text + "\n")

    def _write(self, text: str) -> None:
        assert self._stream is not None
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            # A log that nobody reads any more must not end a run.
            self._stream = None
            self._terminal = False
            self.update = lambda done, total: None  # type: ignore[method-assign]


def _span(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
