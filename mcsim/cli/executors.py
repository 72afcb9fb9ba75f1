"""The executor that a run is given, by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from concurrent.futures import Executor

NAMES = ("threads", "processes", "dask", "mpi")


class Hands(NamedTuple):
    """Who samples. executor: None for threads of this process. threads: of each worker; None for
    all that are available. workers: processes that were started here for them. helps: whether this
    process is a worker of another, and done. exit: ends the run at once with an exit code."""

    executor: Executor | None
    threads: int | None
    workers: int = 0
    helps: bool = False
    exit: Callable[[int], object] = os._exit


@contextmanager
def hands(
    name: str, workers: int | None, scheduler: str | None, threads: int | None
) -> Iterator[Hands]:
    """Who samples, as `mcsim run` is asked for; here until the end of the block.

    Raises click.UsageError where options do not go together, WorkersError where there is nobody.
    """
    if scheduler is not None and name != "dask":
        raise click.UsageError("--scheduler is for --executor dask")
    if workers is not None and (scheduler is not None or name not in ("processes", "dask")):
        raise click.UsageError(
            "--workers is for --executor processes and for dask without --scheduler; elsewhere"
            " those who start the workers say how many there are"
        )
    if name == "threads":
        yield Hands(None, threads)
        return
    from mcsim import executors
    from mcsim.threads import available_threads

    available = available_threads()
    # Where their number is not given here, workers are as many as their processors.
    number = workers or max(available // (threads or 1), 1)
    each = threads or max(available // (workers or available), 1)
    if name == "mpi":
        with executors.mpi() as executor:
            yield Hands(executor, threads, helps=executor is None, exit=executors.end_the_job)
    elif name == "dask":
        with executors.dask(scheduler, number) as executor:
            yield Hands(executor, threads if scheduler else each, 0 if scheduler else number)
    else:
        with executors.processes(number) as executor:
            yield Hands(executor, each, number)
