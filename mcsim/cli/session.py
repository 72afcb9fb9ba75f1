"""A run that may be ended at any moment, and is gone on with later."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from mcsim.cli.saying import FAILED

if TYPE_CHECKING:
    from mcsim.results import CheckpointFiles

STOPPED = 85
"""The exit code of a run that a signal ended: run it again, with --resume, and it goes on."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
_SAME_SIGNAL = 1.0
"""s, within which a second signal is the first one again."""
_MOST_SAVING = 0.01
"""The share of a run's time that writing checkpoints may take."""


class Done(Protocol):
    """What is done of a run, or of a sweep."""

    @property
    def steps(self) -> int:
        """How many: where they are as many as at the last checkpoint, it need not be written."""


class Session:
    """Writes checkpoints beside the result of a run, now and then and when a signal ends it.

    every: s, between checkpoints; longer where writing one takes long; 0: only at a signal. A
    second signal ends the run without waiting for anything; but batch systems may send the first
    one twice at once. most_saving: the share of the time that writing may take.
    """

    def __init__(self, every: float, most_saving: float = _MOST_SAVING) -> None:
        self._every, self._most_saving = every, most_saving
        self._exit: Callable[[int], object] = os._exit
        self._checkpoints: CheckpointFiles[Any] | None = None
        self._saving = False
        self._ending: float | None = None
        for number in _SIGNALS:
            # Started in the background, a process is to ignore Ctrl-C, and finds it ignored.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._end)

    def exit_by(self, leave: Callable[[int], object]) -> None:
        """From now on, end the process by this, given the exit code."""
        self._exit = leave

    def begin(self, checkpoints: CheckpointFiles[Any], resumed: Done | None) -> None:
        """From now on, save here. resumed: what is saved already."""
        self._checkpoints = checkpoints
        self._done: Callable[[], Done] | None = None
        self._saved = None if resumed is None else resumed.steps
        self._written, self._pause = time.monotonic(), self._every

    def watch(self, done: Callable[[], Done]) -> None:
        """Take notice of what is done, and write it down where the time has come."""
        self._done = done
        if self._every and time.monotonic() - self._written >= self._pause:
            self.save()

    def end(self) -> None:
        """From now on, nothing is to be saved: the result is written."""
        self._done = None

    def save(self) -> None:
        """Write a checkpoint of what is done, if that is more than at the last one."""
        from mcsim.errors import ResultError

        if self._checkpoints is None or self._done is None:
            return
        part = self._done()
        if part.steps == self._saved:
            return
        self._saving = True
        start = time.monotonic()
        try:
            self._checkpoints.save(part)
            self._saved = part.steps
        except ResultError as error:
            _say(f"mcsim: no checkpoint: {error}")
        self._written = time.monotonic()
        self._pause = max(self._every, (self._written - start) / self._most_saving)
        self._saving = False
        if self._ending is not None:
            self._leave()

    def _end(self, number: int, frame: FrameType | None) -> None:
        # No exception: one that is raised inside the file libraries leaves their locks taken.
        # Workers that end with this process are no news.
        logging.disable()
        now = time.monotonic()
        if self._ending is not None:
            if now - self._ending > _SAME_SIGNAL:
                self._leave()
            return
        self._ending = now
        if not self._saving:
            self.save()
            self._leave()

    def _leave(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.leave()
        if self._checkpoints is None or (self._done is None and self._saved is None):
            _say("mcsim: stopped before anything was done")
        elif self._saved is None:
            _say("mcsim: stopped; what was done could not be saved")
            self._exit(FAILED)
        else:
            where = self._checkpoints.newest
            _say(f"mcsim: stopped at a checkpoint, {where}; --resume goes on from it")
        self._exit(STOPPED)


def _say(message: str) -> None:
    with suppress(OSError):
        os.write(2, f"\n{message}\n".encode())
