"""Begin with what is already known: an older study's trials, or a table of runs.

    lineage.py    how new domains come from old ones, and what an old mixture is in the new ones
    studies.py    trials of another study
    rungs.py      which rung they belong to
    tables.py     a CSV of earlier runs
    begin.py      either or both, by name

Imported trials have no slot: they spend nothing of the plan, and samplers, predictors and selection
use them like any other finished trial.
"""

from climb_opt.warmstart.begin import begin, older_study
from climb_opt.warmstart.lineage import Lineage, read_lineage
from climb_opt.warmstart.studies import Imported, warm_start
from climb_opt.warmstart.tables import import_csv

__all__ = [
    "Imported",
    "Lineage",
    "begin",
    "import_csv",
    "older_study",
    "read_lineage",
    "warm_start",
]
