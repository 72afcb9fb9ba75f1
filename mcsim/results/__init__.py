"""What comes out: labelled Datasets, and files that are whole or not there."""

from mcsim.results.checkpoint import CheckpointFiles, Checkpoints
from mcsim.results.explained import label_explanation
from mcsim.results.files import check_writable, discard_temporaries, only_writer
from mcsim.results.found import Found, Goal, goal_of, label_found
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
from mcsim.results.summary import confidence_interval, summarise
from mcsim.results.sums import is_checkpoint
from mcsim.results.sums import read as read_part
from mcsim.results.sweep_table import OF_SWEEPS
from mcsim.results.swept import SWEEP, UNITS, Axis, axes_of, label_sweep
from mcsim.results.target import next_plan

__all__ = [
    "OF_SWEEPS",
    "SWEEP",
    "UNITS",
    "Axis",
    "CheckpointFiles",
    "Checkpoints",
    "Cost",
    "Finished",
    "Found",
    "Goal",
    "Part",
    "PartOfSweep",
    "SweepCheckpoints",
    "axes_of",
    "check_output",
    "check_writable",
    "confidence_interval",
    "discard_temporaries",
    "goal_of",
    "is_checkpoint",
    "is_part_of_sweep",
    "label",
    "label_explanation",
    "label_found",
    "label_part",
    "label_sweep",
    "next_plan",
    "only_writer",
    "open_result",
    "read_part",
    "read_points",
    "stored_scenario",
    "summarise",
    "write",
]
