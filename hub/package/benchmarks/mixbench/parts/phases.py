# Written by hub/build.py from climb_opt: change it there.
"""Mixtures that change while a model trains: the search space of schedules."""

from .phases_either import checked_space as checked_space
from .phases_either import one_phase as one_phase
from .phases_either import over_run as over_run
from .phases_either import parameters as parameters
from .phases_either import point_of as point_of
from .phases_either import shares_of as shares_of
from .phases_either import side_by_side as side_by_side
from .phases_either import space_from_json as space_from_json
from .phases_either import throughout as throughout
from .phases_either import to_train as to_train
from .phases_given import shown as shown
from .phases_space import PhasedSpace as PhasedSpace
