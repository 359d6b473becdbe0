"""Mixtures that change while a model trains: the search space of schedules."""

from climb_opt.phases.given import shown as shown
from climb_opt.phases.space import PhasedSpace as PhasedSpace
from climb_opt.phases.space import one_phase as one_phase
from climb_opt.phases.space import space_from_json as space_from_json
from climb_opt.phases.space import throughout as throughout
from climb_opt.phases.space import to_train as to_train
