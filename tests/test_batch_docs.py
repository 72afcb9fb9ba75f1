"""The commands of the pages on batch systems work as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import slurm
import standins
from oracle import scenario
from warm import MCSIM

import mcsim

DOCS = Path(__file__).resolve().parents[1] / "docs"
ENDED = {"COMPLETED", "CANCELLED"}


def sections(page):
    """The blocks of commands, by the heading that they stand under."""
    parts = re.split(r"^##? (.*)\n", (DOCS / page).read_text(), flags=re.MULTILINE)[1:]
    found = {
        heading: re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }
    return {heading: blocks for heading, blocks in found.items() if blocks}


@pytest.fixture
def small(tmp_path):
    jitter = {"law": "lognormal", "mean": 1, "cv": 0.05}
    asked = scenario({"count": 50, "jitter": {"step": jitter}}, steps=100, replicates=4)
    (tmp_path / "my.toml").write_text(asked.to_toml())
    return asked


def run(block, directory, environment):
    path = f"{MCSIM.parent}:{environment['PATH'].rstrip(':')}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        env=environment | {"PATH": path},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, (block, done.stdout, done.stderr)


def logs(directory):
    return [file.read_text() for file in directory.rglob("*.log")]


def test_the_page_on_slurm(tmp_path, small):
    if lacking := slurm.missing():
        pytest.skip(f"there is no Slurm here: {lacking}")
    blocks = [block for found in sections("slurm.md").values() for block in found]
    assert len(blocks) == 5
    with slurm.running() as cluster:
        for block in blocks:
            run(block, tmp_path, cluster.environment)
            slurm.wait_for(lambda: set(cluster.states().values()) <= ENDED, 200)
        states = list(cluster.states().values())
    assert states.count("CANCELLED") <= 1, (states, logs(tmp_path))
    for name in ("my.nc", "other.nc", "by-hand.nc"):
        with mcsim.open(tmp_path / name) as found:
            assert found.equals(mcsim.run(small)), name


@pytest.mark.parametrize(
    ("heading", "system"),
    [
        ("OpenPBS and PBS Professional", standins.PBS),
        ("LSF", standins.LSF),
        ("Grid Engine", standins.GRID_ENGINE),
    ],
)
def test_the_page_on_other_systems(tmp_path, tmp_path_factory, small, heading, system):
    programs = tmp_path_factory.mktemp("standins")
    standins.put(programs, system)
    for block in sections("pbs-lsf-sge.md")[heading]:
        run(block, tmp_path, standins.environment(programs))
    output = (programs / "output").read_text()
    assert not (programs / "failed").exists(), output
    with mcsim.open(tmp_path / "my.nc") as found:
        assert found.equals(mcsim.run(small))
    by_hand = sorted(os.listdir(tmp_path if system is standins.PBS else tmp_path / "parts"))
    assert len([name for name in by_hand if re.search(r"\d\.nc$", name)]) == 4


def test_every_section_with_commands_is_run():
    assert list(sections("pbs-lsf-sge.md")) == [
        "OpenPBS and PBS Professional",
        "LSF",
        "Grid Engine",
    ]
