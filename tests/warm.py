"""`mcsim` as the tests start it: by the fork of a process that has imported what it needs.

A start of Python with Numba, xarray and SciPy takes 1.5 s of processor time, a fork 0.05 s. What
the tests start is a process all the same: with its own arguments, directory, streams, limits,
signals and exit code. The program `MCSIM` hands all these to the server, passes signals on, and
ends as the fork of the server ends; if it is killed, so is the fork. `PYTHON` does the same for
`-P -m mcsim`, and is Python otherwise. Where the answer may depend on how Python starts (another
environment, another user, closed streams), both start what is installed.

Run as a program, this file is the server: `warm.py SOCKET PYTHON`; it ends with its standard input.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import marshal
import os
import resource
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

REAL = Path(sys.executable).parent / "mcsim"
"""The program as it is installed."""

# -I -S: 15 ms. What differs between the environments of jobs is read by mcsim when it runs.
_PROGRAM = """\
#!{python} -IS
import marshal, os, resource, signal, _socket

def start():
    real, leading = {real!r}, {leading!r}
    given = os.sys.argv[1:]
    own = {{k: v for k, v in os.environ.items() if not k.startswith({may_differ!r})}}
    warm = own == {started_with!r} and os.geteuid() == {user} and given[:len(leading)] == leading
    try:
        directory = os.getcwd()
        for stream in range(3):
            os.fstat(stream)
    except OSError:
        warm = False
    if not warm:
        os.execv(real, [real, *given])
    numbers = signal.valid_signals() - {{signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}}
    ignored = [int(n) for n in numbers if signal.getsignal(n) == signal.SIG_IGN]
    for number in numbers.difference(ignored):
        signal.signal(number, signal.SIG_DFL)
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    server.connect({address!r})
    asked = {{
        "arguments": [real, *given[len(leading):]],
        "environment": dict(os.environ),
        "directory": directory,
        "mask": os.umask(0),
        "processors": list(os.sched_getaffinity(0)),
        "ignored": ignored,
        "limits": [(n, resource.getrlimit(n)) for n in {limits!r}],
    }}
    streams = b"".join(n.to_bytes(4, os.sys.byteorder) for n in range(3))
    server.sendmsg([marshal.dumps(asked)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
    for number in numbers.difference(ignored):
        signal.signal(number, lambda number, frame: server.send(bytes([number])))
    answer = server.recv(4)
    status = int.from_bytes(answer, os.sys.byteorder, signed=True) if answer else 125
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if status != -signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)

start()
"""
_MAY_DIFFER = (
    "COLUMNS", "HDF5_PLUGIN_PATH", "JOB_", "LINES", "LSB_", "NCPUS", "OLDPWD", "PATH", "PBS_",
    "PWD", "PYTEST_", "SGE_", "SHLVL", "SLURM", "STANDINS", "_",
)  # fmt: skip
"""Beginnings of names. netCDF4 sets the second itself."""
_IMPORTED = (
    "importlib.metadata", "mcsim.batch", "mcsim.cli.listing", "mcsim.cli.progress",
    "mcsim.cli.running", "mcsim.cli.session", "mcsim.cli.shards", "mcsim.cli.submit",
    "mcsim.engine.engines", "mcsim.engine.selfcheck", "mcsim.model.estimate",
    "mcsim.model.limits", "mcsim.model.step_law", "mcsim.results", "mcsim.study.explain",
    "netCDF4", "scipy.stats", "xarray.backends.netCDF4_",
)  # fmt: skip


def _started() -> tuple[Path, Path]:
    """The programs; their server runs as long as this process."""
    if not sys.platform.startswith("linux"):
        return REAL, Path(sys.executable)
    directory = Path(tempfile.mkdtemp(prefix="mcsim-warm-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    known = {
        "python": sys.executable,
        "address": str(directory / "server"),
        "user": os.geteuid(),
        "may_differ": _MAY_DIFFER,
        "started_with": {k: v for k, v in os.environ.items() if not k.startswith(_MAY_DIFFER)},
        "limits": sorted({getattr(resource, n) for n in dir(resource) if n.startswith("RLIMIT")}),
    }
    program, python = directory / "mcsim", directory / "python"
    program.write_text(_PROGRAM.format(real=str(REAL), leading=[], **known))
    python.write_text(_PROGRAM.format(real=sys.executable, leading=["-P", "-m", "mcsim"], **known))
    program.chmod(0o755)
    python.chmod(0o755)
    # Its standard input ends with this process, however that ends.
    server = subprocess.Popen(
        [sys.executable, __file__, known["address"], python],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
    )
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdout.readline()
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    return program, python


class _Child(NamedTuple):
    """A fork: its number, what tells its end, and the connection of who asked for it."""

    number: int
    handle: int
    connection: socket.socket


def _serve(address: str) -> None:
    """Fork for each request. Returns in the forks only, each as what was asked for."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(address)
    listening.listen(64)
    waiting = selectors.DefaultSelector()
    waiting.register(listening, selectors.EVENT_READ)
    waiting.register(0, selectors.EVENT_READ)
    os.write(1, b"ready\n")
    gc.freeze()
    while True:
        for key, _ in waiting.select():
            child: _Child | None = key.data
            if key.fd == 0:
                os._exit(0)
            elif waiting.get_map().get(key.fd) is not key:
                # Its end was told in the same breath.
                continue
            elif child is None:
                connection, _ = listening.accept()
                request, streams, _, _ = socket.recv_fds(connection, 2**20, 3)
                if not request:
                    connection.close()
                    continue
                number = os.fork()
                if number == 0:
                    for fd in [connection.fileno(), *waiting.get_map()]:
                        if fd > 0:
                            os.close(fd)
                    _become(marshal.loads(request), streams)
                    return
                for stream in streams:
                    os.close(stream)
                child = _Child(number, os.pidfd_open(number), connection)
                waiting.register(child.handle, selectors.EVENT_READ, child)
                waiting.register(connection, selectors.EVENT_READ, child)
            elif key.fd == child.handle:
                _end(child, waiting)
            else:
                _pass_on(child, waiting)


def _pass_on(child: _Child, waiting: selectors.BaseSelector) -> None:
    """A signal; the last one if who asked for the fork is gone."""
    try:
        sent = child.connection.recv(1)
    except ConnectionError:
        sent = b""
    if not sent:
        waiting.unregister(child.connection)
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(child.handle, sent[0] if sent else signal.SIGKILL)


def _end(child: _Child, waiting: selectors.BaseSelector) -> None:
    """Say how a fork ended."""
    _, status = os.waitpid(child.number, 0)
    waiting.unregister(child.handle)
    os.close(child.handle)
    with suppress(KeyError):
        waiting.unregister(child.connection)
    with suppress(OSError):
        code = os.waitstatus_to_exitcode(status)
        child.connection.send(code.to_bytes(4, sys.byteorder, signed=True))
    child.connection.close()


def _become(asked: dict, streams: list[int]) -> None:
    """Take over the streams and the surroundings of who asked."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    os.setpgid(0, 0)
    os.chdir(asked["directory"])
    os.umask(asked["mask"])
    os.sched_setaffinity(0, asked["processors"])
    for number in asked["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = asked["arguments"]
    for number, limit in asked["limits"]:
        if resource.getrlimit(number) != limit:
            resource.setrlimit(number, limit)


def _leave(code: object) -> None:
    """As Python ends, but for taking a thousand modules apart (0.15 s)."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _import() -> None:
    """What commands import: nothing of it starts a thread that a fork would miss."""
    for name in _IMPORTED:
        importlib.import_module(name)
    # dask is imported by xarray where it is installed.
    with suppress(ImportError):
        importlib.import_module("dask.array")
    from numba.core.registry import cpu_target

    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


if __name__ == "__main__":
    sys.path.pop(0)
    _import()
    from mcsim.cli import main

    address, python = sys.argv[1:]
    _serve(address)
    # What is written into jobs, or starts workers.
    sys.executable = python
    try:
        sys.exit(main(prog_name="mcsim"))
    except SystemExit as end:
        _leave(end.code)
else:
    MCSIM, PYTHON = _started()
