"""Checkpoints: what is done of a run or a sweep, beside the file of its result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from mcsim.errors import ResultError
from mcsim.results import sums
from mcsim.results.files import discard_temporaries, lock_of, replacing
from mcsim.results.part import Part

Done = TypeVar("Done")
"""What is done, as it is kept."""


class CheckpointFiles(ABC, Generic[Done]):
    """The newest checkpoint and the one before it, which is kept until the next is whole.

    target: the file of the result.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        whole = target.resolve()
        self.newest = whole.with_name(f"{whole.name}.checkpoint")
        self.former = whole.with_name(f"{whole.name}.checkpoint.previous")

    @abstractmethod
    def _write(self, part: Done, path: Path) -> None:
        """Write what is done into a new file."""

    @abstractmethod
    def _read(self, path: Path) -> Done:
        """What is in a file. Raises ResultError."""

    def save(self, part: Done) -> None:
        """Write a checkpoint, whole or not at all. Raises ResultError."""
        try:
            with replacing(self.newest, self.former) as temporary:
                self._write(part, temporary)
        except OSError as error:
            reason = error.strerror or error
            raise ResultError(f"{self.newest}: cannot be written: {reason}") from error

    def load(self, tell: Callable[[ResultError], object] | None = None) -> tuple[Path, Done] | None:
        """The newest one that is undamaged, and its file; None where there is none.

        tell: is given what is damaged, where another one is not. Raises ResultError where all that
        there are are damaged.
        """
        damaged = None
        for path in (self.newest, self.former):
            if path.exists():
                try:
                    part = self._read(path)
                except ResultError as error:
                    damaged = damaged or error
                else:
                    if damaged is not None and tell is not None:
                        tell(damaged)
                    return path, part
        if damaged is not None:
            raise damaged
        return None

    def remove(self) -> None:
        """Remove all that there are."""
        for path in (self.newest, self.former):
            path.unlink(missing_ok=True)

    def leave(self) -> None:
        """Remove what was begun to be written, of a checkpoint or the result, and the lock: for the
        only writer, when it has to end at once."""
        discard_temporaries(self._target)
        lock_of(self._target).unlink(missing_ok=True)


class Checkpoints(CheckpointFiles[Part]):
    """Of a run."""

    def _write(self, part: Part, path: Path) -> None:
        path.write_bytes(sums.CHECKPOINT)
        sums.append(part, path)

    def _read(self, path: Path) -> Part:
        return sums.read(path)
