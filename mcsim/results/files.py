"""Files that are written whole or not at all."""

from __future__ import annotations

import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcsim.errors import ResultError


def check_writable(path: Path) -> None:
    """Raise ResultError where a file could not be written later; leaves no trace."""
    try:
        target = path.resolve()
        if str(path) == "-":
            raise ResultError("-: results are files; name one")
        if target.is_dir():
            raise ResultError(f"{path}: is a directory; name a file")
        if not target.parent.is_dir():
            raise ResultError(f"{path}: there is no directory {target.parent}")
        if target.exists() and not target.is_file():
            raise ResultError(f"{path}: is not a regular file")
        with _temporary(target) as temporary:
            temporary.touch(exist_ok=False)
    except OSError as error:
        raise ResultError(f"{path}: cannot be written: {error.strerror}") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name once the block is through.

    It is synced to the disk first. Until then, and for good if the block fails, a file of that
    name stays as it was; readers that have it open keep it. A symbolic link stays one.
    """
    target = path.resolve()
    with _temporary(target) as temporary:
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
    _sync(target.parent)


def discard_temporaries(path: Path) -> None:
    """Remove what this process has begun to write beside `path`; for when it has to end at once."""
    target = path.resolve()
    pattern = f".{glob.escape(target.name)}.{os.getpid()}.*.tmp"
    for temporary in target.parent.glob(pattern):
        temporary.unlink(missing_ok=True)


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A name beside `target` that nobody uses; no file of it is left behind."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
