"""What the README shows must work as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import mcsim

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_scenario_loads(tmp_path):
    (text,) = blocks("toml")
    (tmp_path / "two.toml").write_text(text)
    assert mcsim.load(tmp_path / "two.toml").fleet[0].count == 16_384


def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert mcsim.load("result.nc").run.steps == 500


def test_the_command_prints_what_is_shown():
    (shown,) = blocks("console")
    command, _, expected = shown.partition("\n")
    program, *arguments = shlex.split(command.removeprefix("$ "))
    found = subprocess.run(
        [Path(sys.executable).parent / program, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == expected


def test_the_table_is_that_of_the_bundled_scenarios():
    rows = re.findall(
        r"^\| `([\w-]+)`.*\| ([\d.]+) s \| ([\d.]+) % \| ([\d,]+) \|$", README, re.MULTILINE
    )
    assert len(rows) == 4
    for name, step, efficiency, gpus in rows:
        found = mcsim.run(mcsim.load(name).replace({"run.steps": 200, "run.replicates": 2}))
        assert abs(float(found.step_time_mean.mean()) - float(step)) < 0.02
        assert abs(100 * float(found.efficiency.mean()) - float(efficiency)) < 0.1
        assert abs(float(found.effective_gpus.mean()) / float(gpus.replace(",", "")) - 1) < 2e-3
