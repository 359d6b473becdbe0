"""Mixtures that change while a model trains: the search space of schedules."""

from climb_opt.phases.either import checked_space as checked_space
from climb_opt.phases.either import one_phase as one_phase
from climb_opt.phases.either import over_run as over_run
from climb_opt.phases.either import parameters as parameters
from climb_opt.phases.either import point_of as point_of
from climb_opt.phases.either import shares_of as shares_of
from climb_opt.phases.either import side_by_side as side_by_side
from climb_opt.phases.either import space_from_json as space_from_json
from climb_opt.phases.either import throughout as throughout
from climb_opt.phases.either import to_train as to_train
from climb_opt.phases.given import shown as shown
from climb_opt.phases.space import PhasedSpace as PhasedSpace
