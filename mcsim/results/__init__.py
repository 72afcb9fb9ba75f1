"""What comes out: labelled Datasets, and files that are whole or not there."""

from mcsim.results.checkpoint import CheckpointFiles, Checkpoints
from mcsim.results.compared import Outcome, label_comparison, outcome_of
from mcsim.results.explained import label_explanation
from mcsim.results.files import check_writable, discard_temporaries, only_writer
from mcsim.results.found import Found, Goal, goal_of, label_found
from mcsim.results.kinds import kind_of
from mcsim.results.label import label
from mcsim.results.netcdf import check_output, open_result, stored_scenario, write
from mcsim.results.part import Cost, Part
from mcsim.results.points import (
    Finished,
    PartOfSweep,
    SweepCheckpoints,
    is_part_of_sweep,
    label_part,
    read_points,
)
from mcsim.results.remedied import with_remedies
from mcsim.results.summary import confidence_interval, summarise
from mcsim.results.sums import is_checkpoint
from mcsim.results.sums import read as read_part
from mcsim.results.sweep_table import OF_SWEEPS
from mcsim.results.swept import SWEEP, UNITS, Axis, axes_of, label_sweep
from mcsim.results.target import next_plan
from mcsim.results.uses import Fleet, Use
from mcsim.results.verdict import label_verdict

__all__ = [
    "OF_SWEEPS",
    "SWEEP",
    "UNITS",
    "Axis",
    "CheckpointFiles",
    "Checkpoints",
    "Cost",
    "Finished",
    "Fleet",
    "Found",
    "Goal",
    "Outcome",
    "Part",
    "PartOfSweep",
    "SweepCheckpoints",
    "Use",
    "axes_of",
    "check_output",
    "check_writable",
    "confidence_interval",
    "discard_temporaries",
    "goal_of",
    "is_checkpoint",
    "is_part_of_sweep",
    "kind_of",
    "label",
    "label_comparison",
    "label_explanation",
    "label_found",
    "label_part",
    "label_sweep",
    "label_verdict",
    "next_plan",
    "only_writer",
    "open_result",
    "outcome_of",
    "read_part",
    "read_points",
    "stored_scenario",
    "summarise",
    "with_remedies",
    "write",
]
