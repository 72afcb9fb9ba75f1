"""What happens, on the host, in plain NumPy: from a scenario to a plan, and from ready to done."""

from mcsim.model.lower import lower
from mcsim.model.plan import Barrier, Delay, Group, Plan, SitePlan

__all__ = ["Barrier", "Delay", "Group", "Plan", "SitePlan", "lower"]
