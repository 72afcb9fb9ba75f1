"""The CUDA target: simulated, compiled, and where it is not there or fails.

Nothing here needs a GPU; `make bench-cuda` checks and times one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from oracle import scenario

import mcsim
from mcsim import batch
from mcsim.cli import main
from mcsim.engine import sampled, targets
from mcsim.engine.draws import (
    complete,
    first_not_below,
    place_of,
    rare_survival,
    usual_survival,
    whole_draw,
)
from mcsim.engine.philox import Purpose, key_of, word_3
from mcsim.errors import TargetError
from mcsim.model import lower

HERE = Path(__file__).parent
LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}
JITTER = {"persistent": LOGNORMAL, "step": LOGNORMAL}

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None,
    reason="numba-cuda is not installed (pip install 'mcsim[cuda]')",
)


def printed(script, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, HERE / script, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def simulated():
    return printed("simulated.py", NUMBA_ENABLE_CUDASIM="1")


@needs_package
def test_the_simulated_target_gives_what_the_processor_does(simulated):
    found = {case: differs for case, differs in simulated.items() if case != "types"}
    mixed = found.pop("mixed")
    for case, differs in found.items():
        assert differs["same"] == ["time", "ready", "culprit", "draw", "device"], case
        assert differs["busy"] < 1e-6, case
        assert differs["divided"], case
        # Times on the edge of a bin may be rounded to its other side.
        assert max(differs.get("moved", [0])) <= 2, case
    assert found["stalls"]["counted"] == 16 * 100
    assert mixed == {
        "same": [True, True],
        "targets": ["cpu, cuda", "cpu, cuda", "cuda"],
        "hash": True,
    }


@needs_package
@pytest.mark.parametrize("capability", ["8.0", "9.0", "10.0"])
def test_kernels_compile_to_lean_code(capability, simulated):
    found = printed("compiled.py", capability)
    assert set(found) == set(simulated["types"])
    for name, used in found.items():
        registers = used.pop("registers")
        # What is compiled here is what is launched, which the simulator does not mind.
        assert [used.pop("types")] == simulated["types"][name]
        # Half of all threads that a multiprocessor can have.
        assert 0 < registers <= 64, name
        assert not any(used.values()), (name, used)


def test_a_draw_by_itself_is_that_of_all():
    rng = np.random.default_rng(5)
    device = rng.integers(0, 1_000, 4_000)
    step = rng.integers(0, 500, 4_000).astype(np.uint32)
    last, identity, key = word_3(2, Purpose.STALL), np.uint32(9), key_of(11)
    survival, rare = complete(device, step, identity, last, *key)
    with np.errstate(over="ignore"):
        for i in [*np.flatnonzero(rare), *range(300)]:
            is_rare, high, low = whole_draw(np.uint32(device[i]), step[i], identity, last, *key)
            assert is_rare == rare[i]
            assert (rare_survival if is_rare else usual_survival)(high, low) == survival[i]
    assert rare.any()


@pytest.mark.parametrize("rare", [True, False])
def test_what_is_below_a_threshold_is_below_its_whole_number(rare):
    rng = np.random.default_rng(6)
    threshold = np.concatenate(
        [[0.0, 1.0, 2.0**-11], rng.random(40), 2.0 ** -rng.uniform(0, 66, 60)]
    )
    bound = first_not_below(threshold, rare=rare)
    survival = rare_survival if rare else usual_survival

    def is_below(place, limit):
        return survival(np.uint32(place >> 32), np.uint32(place & 0xFFFFFFFF)) < limit

    for limit, place in zip(threshold, map(int, bound), strict=True):
        if place > 0:
            assert is_below(place - 1, limit)
        if place < 2**64 - 1:
            assert not is_below(place, limit)
    assert place_of(np.uint32(3), np.uint32(5)) == 3 << 32 | 5


class Failing:
    """Stands in for a GPU that is lost after some calls."""

    name, description = "cuda", "one that fails"

    def __init__(self, calls):
        self.calls = calls

    def kept(self, *arguments):
        self.calls -= 1
        if self.calls < 0:
            raise TargetError("the GPU failed: fallen off the bus; --target cpu does without it")
        return sampled._kept(*arguments)


@pytest.fixture
def asked(tmp_path):
    file = tmp_path / "asked.toml"
    one = scenario({"count": 50, "jitter": JITTER | {"correlation": 0.5}}, steps=20_000)
    file.write_text(one.replace({"run.engine": "sampled"}).to_toml())
    return file


def call(*arguments, code=0):
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.stderr


def test_a_gpu_that_fails_loses_nothing(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "_gpu", lambda: Failing(8))
    output = tmp_path / "x.nc"
    options = ("run", asked, "-o", output, "--threads", 1)
    said = call(*options, "--target", "cuda", code=1)
    assert "fallen off the bus; --target cpu does without it; what is done is in" in said
    said = call(*options, "--target", "cpu", "--resume")
    assert "going on: " in said
    with mcsim.open(output) as found:
        assert found.equals(mcsim.run(mcsim.load(asked), target="cpu"))
        assert found.attrs["target"] == "cpu, cuda"


def test_where_there_is_no_gpu_it_is_said_before_anything_is_done(asked, tmp_path):
    _, cuda = targets.found_targets()
    if cuda.is_usable:
        pytest.skip("there is a GPU here")
    for options in (("--target", "cuda"), ("--set", "run.target=cuda")):
        said = call("run", asked, "-o", tmp_path / "x.nc", *options, code=2)
        assert said.startswith("mcsim: ")
        assert "cuda" in said.lower()
        assert not (tmp_path / "x.nc").exists()
    with pytest.raises(TargetError):
        mcsim.run(mcsim.load(asked), target="cuda")
    listed = CliRunner().invoke(main, ["list", "targets"]).output
    assert "cpu     yes" in listed
    assert "cuda    no" in listed


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(targets, "find_spec", lambda name: None)
    targets._gpu.cache_clear()
    with pytest.raises(TargetError, match=r"pip install 'mcsim\[cuda\]'"):
        targets.accelerator_of("cuda")


def test_auto_takes_a_gpu_for_long_runs(monkeypatch):
    long = scenario({"count": 200_000, "jitter": JITTER}, steps=10**8)
    short = scenario({"count": 200_000, "jitter": JITTER}, steps=1_000)
    assert targets.likely_target(lower(short), "sampled") == "cpu"
    for is_usable, target in ((True, "cuda"), (False, "cpu")):
        there = [targets.FoundTarget("cuda", is_usable, "")]
        monkeypatch.setattr(targets, "found_targets", lambda there=there: there)
        assert targets.likely_target(lower(long), "sampled") == target
        assert targets.likely_target(lower(long), "exact") == "cpu"
        assert targets.likely_target(lower(short), "sampled") == "cpu"


def test_what_a_gpu_does_not_do_is_refused(asked):
    one = mcsim.load(asked).replace({"run.target": "cuda"})
    with pytest.raises(mcsim.ScenarioError, match=r"run\.target.*exact engine draws none"):
        one.replace({"run.engine": "exact"})
    divided = mcsim.load("llama-405b")
    with pytest.raises(mcsim.ScenarioError, match=r"run\.target.*divided models"):
        batch.advance(divided, target="cuda")


def test_a_run_on_a_gpu_samples(monkeypatch):
    monkeypatch.setattr(targets, "_gpu", lambda: Failing(0))
    one = scenario({"count": 50, "jitter": JITTER}, steps=100_000)
    assert mcsim.run(one).attrs["engine"] == "exact"
    with pytest.raises(AttributeError, match="contenders"):
        mcsim.run(one, target="cuda")
