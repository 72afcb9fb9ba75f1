"""How many threads a run takes: the least of what is allowed."""

from __future__ import annotations

import os

import pytest

from mcsim import threads


@pytest.mark.parametrize(("slurm", "expected"), [("", 4), ("3", 3), ("0", 4), ("many", 4)])
def test_the_batch_system_limits(monkeypatch, slurm, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(threads, "_cgroup_quota", lambda file: None)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", slurm)
    assert threads.available_threads() == expected


@pytest.mark.parametrize(
    ("text", "quota"),
    [("150000 100000\n", 2), ("max 100000\n", None), ("", None), ("100000 100000", 1)],
)
def test_the_quota_of_a_control_group_is_rounded_up(tmp_path, text, quota):
    (tmp_path / "cpu.max").write_text(text)
    assert threads._cgroup_quota(tmp_path / "cpu.max") == quota
    assert threads._cgroup_quota(tmp_path / "missing") is None
