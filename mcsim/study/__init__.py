"""Many runs, one question: what causes cost, what remedies return, where a target is reached."""

from mcsim.study.explain import explain
from mcsim.study.verdict import verdict

__all__ = ["explain", "verdict"]
