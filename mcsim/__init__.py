"""mcsim: Monte Carlo of the straggler effect in synchronous AI training.

    dataset = mcsim.run("colossus-1")
    scenario = mcsim.load("three-campus").replace({"run.steps": 100})

Names are imported on first use, so that `import mcsim` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcsim.api import (
        compare,
        explain,
        find,
        law,
        load,
        merge,
        open,
        report,
        run,
        sweep,
        verdict,
        warm_up,
    )
    from mcsim.errors import McsimError, ResultError, ScenarioError, SelfCheckWarning, WorkersError
    from mcsim.results import confidence_interval, write
    from mcsim.scenario import Scenario

__all__ = [
    "McsimError",
    "ResultError",
    "Scenario",
    "ScenarioError",
    "SelfCheckWarning",
    "WorkersError",
    "compare",
    "confidence_interval",
    "explain",
    "find",
    "law",
    "load",
    "merge",
    "open",
    "report",
    "run",
    "sweep",
    "verdict",
    "warm_up",
    "write",
]

_HOME = {
    "McsimError": "mcsim.errors",
    "ResultError": "mcsim.errors",
    "Scenario": "mcsim.scenario",
    "ScenarioError": "mcsim.errors",
    "SelfCheckWarning": "mcsim.errors",
    "WorkersError": "mcsim.errors",
    "confidence_interval": "mcsim.results",
    "compare": "mcsim.api",
    "explain": "mcsim.api",
    "find": "mcsim.api",
    "law": "mcsim.api",
    "load": "mcsim.api",
    "merge": "mcsim.api",
    "open": "mcsim.api",
    "report": "mcsim.api",
    "run": "mcsim.api",
    "sweep": "mcsim.api",
    "verdict": "mcsim.api",
    "warm_up": "mcsim.api",
    "write": "mcsim.results",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("mcsim")
    if name not in _HOME:
        raise AttributeError(f"module 'mcsim' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
