"""How many threads a run may use."""

from __future__ import annotations

import math
import os
from pathlib import Path


def available_threads() -> int:
    """The least of what affinity, the batch system and the control group allow; at least 1."""
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()]
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    limits.append(int(slurm) if slurm.isdigit() else None)
    limits.append(_cgroup_quota(Path("/sys/fs/cgroup/cpu.max")))
    return max(1, min(limit for limit in limits if limit))


def _cgroup_quota(file: Path) -> int | None:
    """The processors that a control group (version 2) may use, rounded up."""
    try:
        quota, period = file.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return None
