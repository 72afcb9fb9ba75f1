"""How functions are compiled: all of Numba's options, and where compiled code is kept."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import config
from numba.core.caching import FunctionCache
from numba.core.compiler import Compiler
from numba.extending import register_jitable

Function = TypeVar("Function", bound=Callable[..., Any])

KERNELS: list[Any] = []
"""Every kernel that was defined."""


def lane(function: Function) -> Function:
    """A scalar function of one lane, inlined into the loops of kernels.

    Plain Python otherwise, so that the compile cache works across processes and other targets
    can use the same function. Inlined by LLVM: a loop over lanes vectorises only once its calls
    are gone (0.3 against 2.4 ns a device and step); Numba's own inlining does the same, but
    compiles for 18 s instead of 2.
    """
    made: Function = register_jitable(forceinline=True)(function)
    return made


class SeparateArrays(Compiler):
    """Compiles a kernel whose arrays do not overlap, as those of no kernel do.

    Otherwise LLVM must assume that what is written changes what is read, and does not vectorise:
    a table takes 3.1 ns a lane instead of 0.46. (Numba's own option for it is not one of njit.)
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)  # type: ignore[no-untyped-call]
        self.state.flags.noalias = True


class SparedCache(FunctionCache):
    """Keeps what it can: on a full disk, compiled code serves this process and is not kept."""

    def save_overload(self, signature: Any, compiled: Any) -> None:
        with suppress(OSError):
            super().save_overload(signature, compiled)  # type: ignore[no-untyped-call]


def kernel(function: Function) -> Function:
    """A loop over arrays, compiled on first use and kept in the cache for later processes.

    What it is given must not overlap with what it writes. nogil: tiles run on Python threads side
    by side. error_model: a division that may trap does not vectorise. No fastmath: bits must not
    depend on the width of vectors.
    """
    compiled: Any = numba.njit(nogil=True, error_model="numpy", pipeline_class=SeparateArrays)(
        function
    )
    directory = cache_directory()
    if directory is not None:
        settings: Any = config
        before = settings.CACHE_DIR
        # The cache reads this when it is made; other users of Numba in the process keep their own.
        settings.CACHE_DIR = str(directory)
        try:
            compiled._cache = SparedCache(function)  # type: ignore[no-untyped-call]
        finally:
            settings.CACHE_DIR = before
    KERNELS.append(compiled)
    return cast(Function, compiled)


@cache
def cache_directory() -> Path | None:
    """Where compiled kernels are kept, or None where nothing can be written.

    The name holds a hash of all kernel sources and of Numba's version: Numba itself notices an
    edit only in the file of the kernel, not in those of the functions inlined into it.
    `MCSIM_CACHE_DIR` overrides the place.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    for parent in _cache_parents():
        directory = parent / digest.hexdigest()[:16]
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_private(directory):
                tempfile.TemporaryFile(dir=directory).close()
                return directory
        except OSError:
            continue
    return None


def _cache_parents() -> Iterator[Path]:
    chosen = os.environ.get("MCSIM_CACHE_DIR")
    if chosen:
        yield Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    yield (Path(base) if base else Path(os.path.expanduser("~")) / ".cache") / "mcsim"
    yield Path(tempfile.gettempdir()) / f"mcsim-{os.getuid()}"


def _is_private(directory: Path) -> bool:
    """Whether nobody else can put code there: cached kernels are loaded and run."""
    status = directory.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022
