"""Many runs, one question: what causes cost, what remedies return, where a target is reached."""

from mcsim.study.explain import explain
from mcsim.study.sweep import sweep

__all__ = ["explain", "sweep"]
