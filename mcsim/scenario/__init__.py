"""What is asked: scenarios, read strictly and printed back exactly."""

from mcsim.scenario.differences import first_difference
from mcsim.scenario.load import bundled, load_scenario, parse_scenario
from mcsim.scenario.scenario import Scenario

__all__ = ["Scenario", "bundled", "first_difference", "load_scenario", "parse_scenario"]
