"""The commands of studies: many runs, one question."""

from mcsim.cli.comparing import compare
from mcsim.cli.explaining import explain
from mcsim.cli.sweeping import sweep
from mcsim.cli.verdicts import verdict

STUDIES = (explain, compare, sweep, verdict)
