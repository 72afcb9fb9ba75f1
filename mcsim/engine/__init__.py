"""How steps are sampled, fast: addressed random numbers, screening, exact winners."""

from mcsim.engine.simulate import Progress, simulate
from mcsim.engine.tally import Tally
from mcsim.engine.threads import available_threads

__all__ = ["Progress", "Tally", "available_threads", "simulate"]
