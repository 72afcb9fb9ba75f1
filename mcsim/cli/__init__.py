"""The command line: arguments to calls, nothing else.

Results and data go to standard output, everything else to standard error. Heavy modules are
imported inside the commands that need them, so that `--help` answers at once.
"""

from mcsim.cli.main import main
from mcsim.cli.showing import SHOWING
from mcsim.cli.studies import STUDIES
from mcsim.cli.submit import submit

for command in (*SHOWING, submit, *STUDIES):
    main.add_command(command)

__all__ = ["main"]
