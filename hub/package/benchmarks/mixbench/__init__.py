# Written by hub/build.py from climb_opt: change it there.
"""A benchmark of mixture search: problems of known truth, and one protocol

problems.py   `Problem`: an Optuna objective on mixtures, and the judge of what is recommended
catalogue.py  the simulated problems by name
tables.py     problems from files of real runs and from one's own searches; long.py a form
methods.py    `Method`: a sampler, a regression, a law, whatever enters
protocol.py   `run`: one method on one problem with one seed and one budget
examine.py    censored extrapolation, and selection among trained proposals
peers.py      RegMix, Olmix and Marin's law as their authors specify them; public.py their own code
"""

from __future__ import annotations

from . import peers
from .catalogue import PROBLEMS, problem
from .examine import examine
from .methods import Data, Method, Pick
from .problems import Problem
from .protocol import Outcome, run
from .tables import from_studies, of_runs, table_problem

__all__ = [
    "PROBLEMS",
    "Data",
    "Method",
    "Outcome",
    "Pick",
    "Problem",
    "examine",
    "from_studies",
    "of_runs",
    "peers",
    "problem",
    "run",
    "table_problem",
]
