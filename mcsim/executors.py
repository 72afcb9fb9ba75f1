"""Executors whose workers are processes: here, Dask's, or those of MPI."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mcsim.errors import WorkersError

Result = TypeVar("Result")

_PATIENCE = 10.0
"""s, within which a scheduler has to answer."""
_PATIENCE_WITH_WORKERS = 60.0
_PATIENCE_WITH_THE_END = 2
"""s, within which MPI has to end a job."""
_ENDING = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
"""Signals that end a run at a checkpoint: they come to all processes of a terminal or a job, and
are for the first one."""


class Processes(Executor):
    """So many processes; where one is lost, new ones take their place, for what is submitted next.

    They end with the process that started them, however it ends.
    """

    def __init__(self, workers: int) -> None:
        self.num_workers = workers
        self._lock = threading.Lock()
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        # Not by fork: it would copy locks that other threads hold.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.num_workers, context, _become_worker)

    def submit(
        self, function: Callable[..., Result], /, *arguments: Any, **named: Any
    ) -> Future[Result]:
        with self._lock:
            try:
                return self._pool.submit(function, *arguments, **named)
            except BrokenExecutor:
                self._pool.shutdown(wait=False)
                self._pool = self._new()
                return self._pool.submit(function, *arguments, **named)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def kill(self) -> None:
        """End at once, with what is under way."""
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        self._pool.shutdown(cancel_futures=True)


def _be_quiet_at_the_end() -> None:
    """A run that has to end at once leaves what the system takes back: no news to its user."""
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")


def _become_worker() -> None:
    _ignore(_ENDING)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_the_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_the_parent, name="mcsim-parent", daemon=True).start()


def _ignore(signals: Iterable[signal.Signals]) -> None:
    for number in signals:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def processes(workers: int) -> Iterator[Executor]:
    """So many processes of this machine."""
    _be_quiet_at_the_end()
    pool = Processes(workers)
    try:
        yield pool
    except BaseException:
        # Nobody waits for tasks that nobody needs.
        pool.kill()
        raise
    pool.shutdown()


@contextmanager
def dask(scheduler: str | None, workers: int) -> Iterator[Executor]:
    """Workers of Dask: of a scheduler, or so many processes of this machine.

    scheduler: its address, as tcp://head:8786, or the file in which it wrote it. Raises
    WorkersError where Dask is missing, or nobody answers.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise WorkersError("Dask is missing: pip install 'mcsim[dask]'") from None
    if scheduler is None:
        _be_quiet_at_the_end()
        cluster = LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, protocol="tcp://"
        )
        with cluster, Client(cluster) as client:
            yield client.get_executor(pure=False)
        return
    try:
        address = scheduler if _is_address(scheduler) else _address_in(Path(scheduler))
        client = Client(address, timeout=_PATIENCE)
    except (OSError, ValueError) as error:
        raise WorkersError(f"no scheduler answers at {scheduler}: {error}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE_WITH_WORKERS)
        except TimeoutError:
            message = f"the scheduler at {scheduler} has no workers"
            raise WorkersError(message) from None
        yield client.get_executor(pure=False)


def _is_address(scheduler: str) -> bool:
    _, colon, port = scheduler.rpartition(":")
    return "://" in scheduler or (bool(colon) and port.isdigit())


def _address_in(file: Path) -> str:
    """What a scheduler, perhaps soon, writes into its file. Raises OSError, ValueError."""
    start = time.monotonic()
    while not file.exists() and time.monotonic() - start < _PATIENCE:
        time.sleep(0.1)
    content = json.loads(file.read_text())
    if not isinstance(content, dict) or not isinstance(content.get("address"), str):
        raise ValueError("the file holds no address")
    return str(content["address"])


@contextmanager
def mpi() -> Iterator[Executor | None]:
    """The other processes of an MPI job, in the first of them; None in the others, at the end.

    Raises WorkersError where mpi4py or MPI is missing, or where there are no other processes.
    """
    try:
        from mpi4py import MPI
        from mpi4py.futures import MPICommExecutor
    except (ImportError, RuntimeError) as error:
        # A RuntimeError where there is no MPI library, or not the one it was built for.
        reason = str(error).strip().partition("\n")[0]
        message = f"mpi4py is missing, or its MPI library: pip install 'mcsim[mpi]' ({reason})"
        raise WorkersError(message) from None
    if MPI.COMM_WORLD.Get_size() == 1:
        raise WorkersError(
            "there is one process alone: mpiexec -n 4 python -m mpi4py.futures -m mcsim run ..."
        )
    # Were a worker ended by a signal, MPI would end the first process before it has saved.
    signals = (*_ENDING, signal.SIGTERM)
    if MPI.COMM_WORLD.Get_rank() > 0:
        _ignore(signals)
    with MPICommExecutor(
        MPI.COMM_WORLD, main=False, initializer=_ignore, initargs=(signals,)
    ) as executor:
        yield executor


def end_the_job(code: int) -> None:
    """End all processes of an MPI job at once; this exit code is the job's.

    Where the first process merely exits, the job's code may be that of another, which is killed.
    """
    from mpi4py import MPI

    # Should it hang, it has this long.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_PATIENCE_WITH_THE_END)
    MPI.COMM_WORLD.Abort(code)
