"""What comes out: labelled Datasets, and files that are whole or not there."""

from mcsim.results.files import check_writable, discard_temporaries
from mcsim.results.label import Cost, label
from mcsim.results.netcdf import check_output, open_result, stored_scenario, write
from mcsim.results.summary import confidence_interval, summarise
from mcsim.results.target import next_plan

__all__ = [
    "Cost",
    "check_output",
    "check_writable",
    "confidence_interval",
    "discard_temporaries",
    "label",
    "next_plan",
    "open_result",
    "stored_scenario",
    "summarise",
    "write",
]
