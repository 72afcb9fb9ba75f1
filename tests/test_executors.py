"""The same bits from workers of any kind, also where some are lost; on real processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from oracle import scenario
from warm import MCSIM as WARM

import mcsim
from mcsim import batch, executors
from mcsim.engine import Crew, workers
from mcsim.engine.exact import ExactEngine
from mcsim.model import lower
from mcsim.model.arrival import NotExact

DOCS = Path(__file__).resolve().parents[1] / "docs"
SCRIPTS = Path(sys.executable).parent
MCSIM = [sys.executable, "-m", "mcsim"]

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}
JITTER = {"persistent": LOGNORMAL, "node": LOGNORMAL, "step": LOGNORMAL}
PLAIN = scenario(
    {"count": 1_000, "devices_per_node": 8, "jitter": JITTER},
    steps=5_000,
    replicates=3,
    keep="steps",
)
DIVIDED = mcsim.Scenario.from_dict(
    {
        "name": "divided",
        "run": {"steps": 3_000, "replicates": 2},
        "workload": {"parallel": {"pipeline": 2, "microbatches": 4}},
        "fleet": [
            {
                "name": "a",
                "device": "custom",
                "compute": "1 s",
                "count": 16,
                "jitter": {"operation": LOGNORMAL},
            }
        ],
    }
)
SCENARIOS = {
    "sampled": PLAIN.replace({"run.engine": "sampled"}),
    "exact": PLAIN.replace({"run.engine": "exact"}),
    "counted": PLAIN.replace({"run.keep": "devices"}),
    "divided": DIVIDED,
    "target": PLAIN.replace({"run.target_relative_error": 0.002, "run.steps": 200}),
}


def assert_same(one, other):
    assert set(one.variables) == set(other.variables)
    for name in one.variables:
        np.testing.assert_array_equal(one[name].to_numpy(), other[name].to_numpy(), err_msg=name)


@pytest.fixture(scope="module")
def plain():
    """What threads give."""
    return {name: mcsim.run(asked) for name, asked in SCENARIOS.items()}


@pytest.fixture
def many_tasks(monkeypatch):
    """Tasks of a block or so, with little that is sent twice."""
    for name in ("_SHORTEST", "_LONGEST", "_FIRST"):
        monkeypatch.setattr(workers, name, 0.01)
    monkeypatch.setattr(workers, "_LIGHT", 0)


def assert_all_same(executor, plain):
    for name, asked in SCENARIOS.items():
        assert_same(mcsim.run(asked, executor=executor), plain[name])


def test_processes_give_the_bits_of_threads(plain, many_tasks):
    with executors.processes(2) as pool:
        assert_all_same(pool, plain)


def test_dask_gives_the_bits_of_threads_and_a_worker_may_be_lost(plain, many_tasks):
    pytest.importorskip("distributed")

    def kill_one(done, steps):
        if not killed:
            killed.append(next(iter(client.nthreads())))
            os.kill(client.run(os.getpid, workers=killed)[killed[0]], signal.SIGKILL)

    with executors.dask(None, 2) as pool:
        client, killed = pool._client, []
        assert_all_same(pool, plain)
        assert_same(
            mcsim.run(SCENARIOS["sampled"], executor=pool, progress=kill_one), plain["sampled"]
        )
        begun = batch.advance(SCENARIOS["sampled"].replace({"run.steps": 2_000}))
        whole = batch.advance(SCENARIOS["sampled"], executor=pool, earlier=begun)
        assert_same(mcsim.results.label(whole), plain["sampled"])


class AtOnce(Executor):
    """Does what it is given when it is given."""

    def submit(self, function, /, *arguments, **named):
        future = Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize("executor", [AtOnce, lambda: ThreadPoolExecutor(3)])
def test_any_executor_will_do(executor, plain, many_tasks):
    with executor() as pool:
        assert_all_same(pool, plain)


def test_a_killed_worker_changes_no_bit(plain, many_tasks):
    killed = []

    def kill_one(done, steps):
        # One that was killed is not missed at once.
        left = [one for one in pool._pool._processes.values() if one.pid not in killed]
        if left and len(killed) < 3:
            killed.append(left[0].pid)
            left[0].kill()

    with executors.processes(2) as pool:
        found = mcsim.run(SCENARIOS["sampled"], executor=pool, progress=kill_one)
    assert len(set(killed)) > 1
    assert_same(found, plain["sampled"])


class Broken(AtOnce):
    def submit(self, function, /, *arguments, **named):
        future = Future()
        future.set_exception(BrokenExecutor("all are gone"))
        return future


class Gone(AtOnce):
    """As Dask's executor when its scheduler has been killed."""

    class _client:  # noqa: N801
        status = "closed"

        @staticmethod
        def nthreads():
            raise RuntimeError("ConnectionPool is closed")


def test_a_scheduler_that_is_lost_is_said():
    with pytest.raises(mcsim.WorkersError, match=r"scheduler has been lost: ConnectionPool"):
        mcsim.run(PLAIN, executor=Gone())


def test_workers_that_are_lost_again_and_again_end_the_run():
    with pytest.raises(mcsim.WorkersError, match=r"lost 4 times with the same task.*all are gone"):
        mcsim.run(PLAIN, executor=Broken())


def cannot(plan, engine, threads, item):
    raise NotExact("a reason")


def end_it(plan, engine, threads, item):
    os._exit(1)


def test_what_a_worker_raises_is_raised_here():
    with executors.processes(1) as pool:
        crew = Crew(pool)
        with pytest.raises(NotExact, match="a reason"):
            list(crew.answers(cannot, lower(PLAIN), "exact", iter([1])))
        with pytest.raises(mcsim.WorkersError, match="lost 4 times"):
            list(crew.answers(end_it, lower(PLAIN), "sampled", iter([1])))


def test_a_cluster_that_is_not_for_the_exact_engine_is_sampled(plain, monkeypatch):
    def draw(engine, replicate):
        raise NotExact("of a reason")

    monkeypatch.setattr(ExactEngine, "draw", draw)
    monkeypatch.setattr(batch, "choose", lambda plan: batch.Choice("exact", "asked for"))
    part = batch.advance(PLAIN, executor=AtOnce())
    assert part.choice.engine == "sampled"
    assert "of a reason" in part.choice.reason


def test_a_worker_of_another_version_is_refused(monkeypatch):
    job = workers.Job.of(lower(PLAIN), "sampled")
    monkeypatch.setattr(workers.metadata, "version", lambda package: "0.0")
    with pytest.raises(mcsim.WorkersError, match=r"a worker has mcsim 0\.0"):
        workers.work(cannot, job, 1, 1)


def test_every_block_is_handed_out_once_and_little_at_the_end():
    plan = lower(PLAIN.replace({"run.steps": 10**6, "run.replicates": 7, "run.engine": "sampled"}))
    crew = Crew(ThreadPoolExecutor(2))
    cut = workers._Cut(plan, "sampled", [(0, 3, 100), (0, 200, 977), (1, 0, 977)], crew)
    tasks = []
    for task in cut:
        cut.took(task, 0.2 * len(task))
        tasks.append(task)
    assert [block for task in tasks for block in task] == [*range(3, 100), *range(200, 2 * 977)]
    times = [0.2 * len(task) for task in tasks]
    assert max(times[1:]) > 20
    assert max(times[-4:]) < 3
    assert min(times[:-1]) >= 0.8


@pytest.fixture
def long(tmp_path):
    """A scenario of minutes, in a file."""
    file = tmp_path / "long.toml"
    asked = PLAIN.replace({"run.steps": 2_000_000, "run.engine": "sampled", "run.keep": "summary"})
    file.write_text(asked.to_toml())
    return file


def start(*arguments, before=()):
    command = [*before, *MCSIM, "run", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=MPI_MAY,
        start_new_session=True,
    )


def wait_for(condition, seconds=90.0):
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds
        time.sleep(0.05)


def children_of(pid):
    """The processes that a process has started, those that are no more left out."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(status.parent.name))
    return found


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("executor", ["processes", "dask"])
def test_a_killed_run_leaves_no_workers_behind(executor, long, tmp_path):
    if executor == "dask":
        pytest.importorskip("distributed")
    checkpoint = tmp_path / "x.nc.checkpoint"
    run = start(
        long, "-o", tmp_path / "x.nc", "--executor", executor, "--workers", 2,
        "--checkpoint-every", 0.1,
    )  # fmt: skip
    wait_for(checkpoint.exists)
    children = children_of(run.pid)
    assert len(children) >= 2
    run.kill()
    run.communicate()
    wait_for(lambda: not any(map(is_alive, children)), 10.0)


def test_a_run_on_processes_stops_at_a_signal_and_goes_on(long, tmp_path):
    output = tmp_path / "x.nc"
    options = (long, "-o", output, "--executor", "processes", "--workers", 2)
    run = start(*options, "--checkpoint-every", 0.1)
    wait_for(Path(f"{output}.checkpoint").exists)
    children = children_of(run.pid)
    # As Ctrl-C does: all processes of the terminal are told.
    os.killpg(run.pid, signal.SIGINT)
    since = time.monotonic()
    said = run.communicate(timeout=30)[1]
    assert run.returncode == 85, said
    assert time.monotonic() - since < 5
    assert "Traceback" not in said
    wait_for(lambda: not any(map(is_alive, children)), 10.0)
    done = mcsim.results.read_part(Path(f"{output}.checkpoint")).tally.steps
    assert done > 0
    run = start(*options, "--checkpoint-every", 0.1, "--resume")
    wait_for(lambda: mcsim.results.read_part(Path(f"{output}.checkpoint")).tally.steps > done)
    run.terminate()
    said = run.communicate(timeout=30)[1]
    assert run.returncode == 85, said
    assert f"going on: {done:,} steps are done" in said


def test_what_processes_began_ends_with_the_bits_of_threads(plain, many_tasks):
    class StoppedError(Exception):
        pass

    def stop(done, steps):
        if done > 4_000:
            raise StoppedError

    kept = []
    asked = SCENARIOS["sampled"]
    with pytest.raises(StoppedError), executors.processes(2) as pool:
        batch.advance(asked, executor=pool, progress=stop, watch=lambda part: kept.append(part()))
    assert 0 < kept[-1].tally.steps < 15_000
    with executors.processes(1) as pool:
        whole = batch.advance(asked, executor=pool, earlier=kept[-1])
        shards = [
            batch.advance(asked, executor=pool, shard=batch.Shard(number, 2)) for number in (1, 2)
        ]
    assert_same(mcsim.results.label(whole), plain["sampled"])
    assert_same(mcsim.results.label(shards[1].joined(shards[0])), plain["sampled"])


MPIEXEC = next(
    filter(None, (shutil.which("mpiexec", path=path) for path in (str(SCRIPTS), None))), None
)
# OpenMPI asks for it: more processes than processors, and tests that root runs.
MPI_MAY = {
    **os.environ,
    "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


@pytest.fixture(scope="session")
def mpi():
    """The beginning of a command of three processes."""
    if MPIEXEC is None:
        pytest.skip("there is no mpiexec")
    command = [MPIEXEC, "-n", "3"]
    tried = subprocess.run(
        [*command, sys.executable, "-c", "from mpi4py import MPI"],
        capture_output=True,
        text=True,
        env=MPI_MAY,
        timeout=60,
    )
    if tried.returncode:
        pytest.skip(f"MPI does not work here: {tried.stderr.strip()[-200:]}")
    return command


@pytest.mark.parametrize("more", [["-m", "mpi4py.futures"], []])
def test_mpi_gives_the_bits_of_threads(more, mpi, plain, tmp_path):
    names = ("sampled", "divided") if more else ("exact",)
    for name in names:
        file, output = tmp_path / f"{name}.toml", tmp_path / f"{name}.nc"
        file.write_text(SCENARIOS[name].to_toml())
        asked = ["-m", "mcsim", "run", file, "-o", output, "--executor", "mpi"]
        done = subprocess.run(
            [*mpi, sys.executable, *more, *asked],
            capture_output=True,
            text=True,
            env=MPI_MAY,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("effective GPUs of") == 1
        with mcsim.open(output) as found:
            assert_same(found, plain[name])


def test_a_run_on_mpi_stops_at_a_signal_to_all(mpi, long, tmp_path):
    output = tmp_path / "x.nc"
    before = [*mpi, sys.executable, "-m", "mpi4py.futures"]
    command = [*before, "-m", "mcsim", "run", long, "-o", output, "--executor", "mpi"]
    run = subprocess.Popen(
        [*command, "--checkpoint-every", "0.1"], env=MPI_MAY, stderr=subprocess.PIPE, text=True
    )
    wait_for(Path(f"{output}.checkpoint").exists)
    run.send_signal(signal.SIGUSR1)
    said = run.communicate(timeout=30)[1]
    assert run.returncode == 85, said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scheduler", "x"], "--scheduler is for --executor dask"),
        (["--executor", "mpi", "--workers", "2"], "--workers is for --executor processes"),
        (
            ["--executor", "dask", "--workers", "2", "--scheduler", "x"],
            "--workers is for --executor processes and for dask without --scheduler",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, said, tmp_path):
    command = [WARM, "run", "three-campus", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())


def test_a_scheduler_that_is_not_there_is_named(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "_PATIENCE", 0.5)
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "gone.json").write_text('{"address": "tcp://127.0.0.1:1"}')
    for where in ("tcp://127.0.0.1:1", "127.0.0.1:1", "bla://x", tmp_path / "none.json",
                  tmp_path / "empty.json", tmp_path / "gone.json"):  # fmt: skip
        with (
            pytest.raises(mcsim.WorkersError, match=re.escape(str(where))),
            executors.dask(str(where), 1),
        ):
            pass


@pytest.mark.parametrize(("package", "name"), [("distributed", "dask"), ("mpi4py", "mpi")])
def test_a_missing_package_is_named_with_its_extra(package, name, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    makes = {"dask": lambda: executors.dask(None, 1), "mpi": executors.mpi}
    with pytest.raises(mcsim.WorkersError, match=rf"'mcsim\[{name}\]'"), makes[name]():
        pass


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def shown(command, directory):
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, env=MPI_MAY, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_on_dask_holds(tmp_path):
    pytest.importorskip("distributed")
    for block in blocks("dask.md", "sh"):
        shown(["bash", "-euc", block], tmp_path)
    (code,) = blocks("dask.md", "python")
    (tmp_path / "efficiency.py").write_text(code)
    efficiency = float(shown([sys.executable, "efficiency.py"], tmp_path))
    for name in ("colossus.nc", "cluster.nc"):
        with mcsim.open(tmp_path / name) as found:
            assert float(found.overall_efficiency) == efficiency


def test_the_page_on_mpi_holds(mpi, tmp_path):
    (block,) = blocks("mpi.md", "sh")
    shown(["bash", "-euc", block], tmp_path)
    (code,) = blocks("mpi.md", "python")
    (tmp_path / "efficiency.py").write_text(code)
    (command,) = re.findall(r"`(mpiexec -n 3 python .*?)`", (DOCS / "mpi.md").read_text())
    efficiency = float(shown(["bash", "-euc", command], tmp_path))
    with mcsim.open(tmp_path / "colossus.nc") as found:
        assert float(found.overall_efficiency) == efficiency
