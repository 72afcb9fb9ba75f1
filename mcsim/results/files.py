"""Files that are written whole or not at all."""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from mcsim.errors import ResultError


def check_writable(path: Path) -> None:
    """Raise ResultError where a file could not be written later; leaves no trace."""
    try:
        target = path.resolve()
    except (OSError, RuntimeError):
        raise ResultError(f"{path}: is a symbolic link that leads to itself") from None
    try:
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
def replacing(path: Path, former: Path | None = None) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name once the block is through.

    It is synced to the disk first. Until then, and for good if the block fails, a file of that
    name stays as it was; readers that have it open keep it. A symbolic link stays one. former:
    the name that such a file gets afterwards, if it is to be kept.
    """
    target = path.resolve()
    with _temporary(target) as temporary:
        yield temporary
        _sync(temporary)
        if former is not None and target.exists():
            os.replace(target, former)
        os.replace(temporary, target)
    _sync(target.parent)


def discard_temporaries(path: Path) -> None:
    """Remove what was begun to be written beside `path` and never finished.

    For who is the only writer, or has to end at once.
    """
    target = path.resolve()
    for temporary in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        temporary.unlink(missing_ok=True)


def lock_of(path: Path) -> Path:
    """The file whose lock the only writer of `path` has."""
    target = path.resolve()
    return target.with_name(f".{target.name}.lock")


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Raise ResultError where another process is about to write `path`, until the block is left.

    A lock of the operating system, which ends with its process however that ends. Where the file
    system has none, nothing is guarded.
    """
    lock = lock_of(path)
    file = _locked(lock, path)
    try:
        discard_temporaries(path)
        yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


def _locked(lock: Path, path: Path) -> TextIO:
    while True:
        file = lock.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ResultError(f"{path}: another run is about to write this file") from None
        except OSError:
            # A file system without locks.
            return file
        try:
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        except FileNotFoundError:
            pass
        # Whoever had the lock has removed its file since it was opened here.
        file.close()


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
