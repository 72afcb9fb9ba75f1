"""Many runs, one question: what causes cost, what remedies return, where a target is reached."""

from mcsim.study.compare import applicable, compare, require_remedies
from mcsim.study.explain import explain
from mcsim.study.sampling import sampled
from mcsim.study.sweep import sweep
from mcsim.study.verdict import verdict

__all__ = [
    "applicable",
    "compare",
    "explain",
    "require_remedies",
    "sampled",
    "sweep",
    "verdict",
]
