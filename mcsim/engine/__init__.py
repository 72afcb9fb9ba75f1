"""How steps are sampled, fast: addressed random numbers, screening, exact winners."""

from mcsim.engine.simulate import Progress, simulate
from mcsim.engine.tally import Tally

__all__ = ["Progress", "Tally", "simulate"]
