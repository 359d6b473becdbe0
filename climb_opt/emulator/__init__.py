"""Objectives that cost nothing: compare samplers without training a model.

tables.py     a CSV of mixtures and a CSV of results -> one checked `Table`
oracle.py     `Emulator`: a function fitted on a table, with its cross-validated quality
laws.py       `MixingLaw`: simulated losses with a known optimum; needs no data
objective.py  `NoisyObjective`: either of them as an Optuna objective
"""

from __future__ import annotations

from climb_opt.emulator.laws import MixingLaw
from climb_opt.emulator.objective import NoisyObjective, Source
from climb_opt.emulator.oracle import Emulator, Quality
from climb_opt.emulator.tables import Table, read_table

__all__ = ["Emulator", "MixingLaw", "NoisyObjective", "Quality", "Source", "Table", "read_table"]
