"""What the README shows must work as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from warm import MCSIM

import mcsim
from mcsim.model import lower
from mcsim.model.causes import CAUSES
from mcsim.study import applicable

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_scenario_loads(tmp_path):
    whole, workload = blocks("toml")
    (tmp_path / "two.toml").write_text(whole)
    assert mcsim.load(tmp_path / "two.toml").fleet[0].count == 16_384
    parts = [part for part in whole.split("\n\n") if not part.startswith("[workload]")]
    (tmp_path / "divided.toml").write_text("\n\n".join([*parts, workload]))
    assert lower(mcsim.load(tmp_path / "divided.toml")).division.placement.replicas == 128


def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert mcsim.load("result.nc").run.steps == 500


EXPLAINED, SHOWN = blocks("console")


def test_the_costs_of_causes_are_theirs():
    command, *lines = EXPLAINED.splitlines()
    assert command == "$ mcsim explain three-campus --set run.steps=500 --set run.replicates=4"
    # The first of the four clusters.
    one = mcsim.load("three-campus").replace({"run.steps": 500, "run.replicates": 1})
    found = mcsim.explain(one)
    rows = [line.split() for line in lines if line.partition(":")[0] in CAUSES]
    assert len(rows) == int((found.overall_shapley_time != 0).sum())
    for cause, *_, shapley, error, _, _ in rows:
        cost = float(found.overall_shapley_time.sel(cause=cause.rstrip(":")))
        assert cost == pytest.approx(float(shapley), abs=8 * float(error))


def test_the_command_prints_what_is_shown():
    command, _, expected = SHOWN.partition("\n")
    program, *arguments = shlex.split(command.removeprefix("$ "))
    found = subprocess.run(
        [MCSIM.with_name(program), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == expected


def test_the_gains_of_remedies_are_theirs():
    rows = re.findall(
        r"^\| `([\w-]+)`: .*\| [\d,]+ \| ([\d.]+) ± ([\d.]+) % \|$", README, re.MULTILINE
    )
    assert len(rows) == 10
    gains = {name: (float(gain), float(error)) for name, gain, error in rows}
    assert set(gains) <= set(applicable(mcsim.load("three-campus")))
    # Half of the clusters and fewer steps: errors are larger.
    few = mcsim.load("three-campus").replace({"run.steps": 50, "run.replicates": 4})
    names = ["hierarchical", "shares-by-device", "double-inside", "islands-by-site"]
    found = mcsim.compare(few, names)
    for name in names:
        gain, error = gains[name]
        assert 100 * float(found.gain.sel(remedy=name)) == pytest.approx(gain, abs=10 * error)


def test_the_verdict_is_that_of_the_bundled_scenarios():
    rows = re.findall(
        r"^\| `([\w-]+)` \| ([\d.]+) % \| ([\d,]+) \| ([\d.]+) % \| ([\d,]+) \| (\d+) % \|$",
        README,
        re.MULTILINE,
    )
    assert [name for name, *_ in rows] == ["colossus-1", "three-campus"]
    for name, *figures in rows:
        kept, gpus, served, work, load = (float(one.replace(",", "")) for one in figures)
        changes = {"run.steps": 100, "run.replicates": 2 if name == "colossus-1" else 8}
        found = mcsim.verdict(mcsim.load(name).replace(changes))
        training, inference = (found.sel(use=use) for use in ("training", "inference"))
        # Where links are down for days, clusters differ much.
        wide = 2.0 if name == "three-campus" else 0.1
        assert 100 * float(training.efficiency) == pytest.approx(kept, abs=wide)
        assert float(training.effective_gpus) == pytest.approx(gpus, rel=wide / 10)
        assert 100 * float(inference.efficiency) == pytest.approx(served, abs=0.1)
        assert float(inference.effective_gpus) == pytest.approx(work, rel=1e-3)
        above = float(training.efficiency / inference.efficiency)
        assert 100 * above == pytest.approx(load, abs=0.6 + wide)


SMALL = {"run.steps": 200, "run.replicates": 2}


def test_the_table_is_that_of_the_bundled_scenarios():
    rows = re.findall(
        r"^\| `([\w-]+)`.*\| ([\d.]+) s \| ([\d.]+) % \| ([\d,]+) \|$", README, re.MULTILINE
    )
    assert len(rows) == 5
    for name, step, efficiency, gpus in rows:
        # Where links are down for days, clusters differ much.
        of_clusters = {"three-campus": 0.04, "three-campus-new-fibre": 0.1}.get(name, 0.0)
        changes = {} if name == "three-campus" else SMALL
        found = mcsim.run(mcsim.load(name).replace(changes))
        time, share = found.step_time_mean.mean().item(), 100 * found.efficiency.mean().item()
        assert time == pytest.approx(float(step), abs=0.02 + of_clusters)
        assert share == pytest.approx(float(efficiency), abs=0.1 + of_clusters)
        devices = found.effective_gpus.mean().item()
        assert devices == pytest.approx(float(gpus.replace(",", "")), rel=2e-3 + of_clusters / 10)


def test_the_table_of_divided_models_is_theirs():
    rows = re.findall(
        r"^\| `([\w-]+)`.*\| ([\d,]+)((?: \| [\d.]+(?: s)?){7}) \| ([\d.]+) % \|$",
        README,
        re.MULTILINE,
    )
    assert len(rows) == 3
    names = ["compute", "tensor", "expert", "bubble", "data"]
    for name, devices, times, efficiency in rows:
        ideal, *spent, step = (float(t.removesuffix(" s")) for t in times.split(" | ")[1:])
        found = mcsim.run(mcsim.load(name).replace({"run.steps": 2}))
        component = found.overall_component_time_mean.sel(component=names).to_numpy()
        component[0] -= float(found.undisturbed_step_time)
        assert int(found.group_devices.sum()) == int(devices.replace(",", ""))
        assert float(found.ideal_step_time) == pytest.approx(ideal, abs=0.006)
        assert component == pytest.approx(spent, abs=0.1)
        assert float(found.overall_step_time_mean) == pytest.approx(step, abs=0.02)
        assert 100 * float(found.overall_efficiency) == pytest.approx(float(efficiency), abs=0.3)
