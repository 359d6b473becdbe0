"""Objectives that cost nothing: compare samplers without training a model.

tables.py     a CSV of mixtures and a CSV of results -> one checked `Table`
oracle.py     `Emulator`: a function fitted on a table, with its cross-validated quality
laws.py       `MixingLaw`: simulated losses with a known optimum; needs no data
phased.py     `PhasedLaw`, `InPhases`: laws of schedules, with a phase effect that is stated
objective.py  `NoisyObjective`: either of them as an Optuna objective
ladders.py    `SourceLadder`: several rungs with costs; `LadderObjective`
simulated.py  `SimulatedLadder`: rungs that rank mixtures as well as stated
shapes.py     laws of other shapes: interactions, thresholds, traces
repetition.py a law of tokens that run out, with rungs of fewer tokens
rows.py       `pool`: the rows of a table of several model sizes, searched without an emulator
"""

from __future__ import annotations

from climb_opt.emulator.ladders import LadderObjective, LadderSource, SourceLadder
from climb_opt.emulator.laws import MixingLaw
from climb_opt.emulator.objective import NoisyObjective, Source
from climb_opt.emulator.oracle import Emulator, Quality
from climb_opt.emulator.phased import PhasedLaw
from climb_opt.emulator.rows import RowLadder, RowSpace, pool
from climb_opt.emulator.simulated import SimulatedLadder
from climb_opt.emulator.tables import Runs, Table, read_runs, read_table

__all__ = [
    "Emulator",
    "LadderObjective",
    "LadderSource",
    "MixingLaw",
    "NoisyObjective",
    "PhasedLaw",
    "Quality",
    "RowLadder",
    "RowSpace",
    "Runs",
    "SimulatedLadder",
    "Source",
    "SourceLadder",
    "Table",
    "pool",
    "read_runs",
    "read_table",
]
