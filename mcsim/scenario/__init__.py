"""What is asked: scenarios, read strictly and printed back exactly."""

from mcsim.scenario.declared import Declared, declared
from mcsim.scenario.differences import first_difference
from mcsim.scenario.load import bundled, load_scenario, parse_scenario
from mcsim.scenario.overrides import places_of, typed
from mcsim.scenario.scenario import Scenario

__all__ = [
    "Declared",
    "Scenario",
    "bundled",
    "declared",
    "first_difference",
    "load_scenario",
    "parse_scenario",
    "places_of",
    "typed",
]
