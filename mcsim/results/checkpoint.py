"""Checkpoints: what is done of a run, beside the file that its result is going to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mcsim.errors import ResultError
from mcsim.results import sums
from mcsim.results.files import discard_temporaries, lock_of, replacing
from mcsim.results.part import Part


class Checkpoints:
    """The newest checkpoint of a run and the one before it, which is kept until the next is whole.

    target: the file of the result.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        whole = target.resolve()
        self.newest = whole.with_name(f"{whole.name}.checkpoint")
        self.former = whole.with_name(f"{whole.name}.checkpoint.previous")

    def save(self, part: Part) -> None:
        """Write a checkpoint, whole or not at all. Raises ResultError."""
        try:
            with replacing(self.newest, self.former) as temporary:
                temporary.write_bytes(sums.CHECKPOINT)
                sums.append(part, temporary)
        except OSError as error:
            reason = error.strerror or error
            raise ResultError(f"{self.newest}: cannot be written: {reason}") from error

    def load(self, tell: Callable[[ResultError], object] | None = None) -> tuple[Path, Part] | None:
        """The newest one that is undamaged, and its file; None where there is none.

        tell: is given what is damaged, where another one is not. Raises ResultError where all that
        there are are damaged.
        """
        damaged = None
        for path in (self.newest, self.former):
            if path.exists():
                try:
                    part = sums.read(path)
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
