"""What comes out: labelled Datasets, and files that are whole or not there."""

from mcsim.results.checkpoint import Checkpoints
from mcsim.results.compared import Outcome, label_comparison, outcome_of
from mcsim.results.explained import label_explanation
from mcsim.results.files import check_writable, discard_temporaries, only_writer
from mcsim.results.label import label
from mcsim.results.netcdf import check_output, open_result, stored_scenario, write
from mcsim.results.part import Cost, Part
from mcsim.results.remedied import with_remedies
from mcsim.results.summary import confidence_interval, summarise
from mcsim.results.sums import is_checkpoint
from mcsim.results.sums import read as read_part
from mcsim.results.target import next_plan
from mcsim.results.uses import Fleet, Use
from mcsim.results.verdict import label_verdict

__all__ = [
    "Checkpoints",
    "Cost",
    "Fleet",
    "Outcome",
    "Part",
    "Use",
    "check_output",
    "check_writable",
    "confidence_interval",
    "discard_temporaries",
    "is_checkpoint",
    "label",
    "label_comparison",
    "label_explanation",
    "label_verdict",
    "next_plan",
    "only_writer",
    "open_result",
    "outcome_of",
    "read_part",
    "stored_scenario",
    "summarise",
    "with_remedies",
    "write",
]
