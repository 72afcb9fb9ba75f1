"""Probability laws of factors and of times: what a scenario's `law` may say.

A law is one frozen dataclass, registered in its own file; to add one, write the class and list
it here.
"""

from mcsim.laws.empirical import Empirical
from mcsim.laws.fromscipy import FromSciPy
from mcsim.laws.gamma import Gamma
from mcsim.laws.law import LAWS, FloatArray, Law, LawFault
from mcsim.laws.mixture import Mixture, WeightedLaw
from mcsim.laws.normal import LogNormal, Normal
from mcsim.laws.pareto import Pareto
from mcsim.laws.simple import Constant, Exponential, Uniform
from mcsim.laws.weibull import Weibull

__all__ = [
    "LAWS",
    "Constant",
    "Empirical",
    "Exponential",
    "FloatArray",
    "FromSciPy",
    "Gamma",
    "Law",
    "LawFault",
    "LogNormal",
    "Mixture",
    "Normal",
    "Pareto",
    "Uniform",
    "Weibull",
    "WeightedLaw",
]
