"""Workers: who may start which slot, who is alive, what became of a trial.

    claim     under the study's lock: reap the dead, ask the plan, start a trial (claims.py)
    beat      a sign of life on the trial every few seconds (beats.py)
    work      claim, run the objective, tell, until the plan is done (worker.py)
    status    the same facts, for a person (status.py), which trials run and may hang (running.py),
              and how long it still takes (durations.py)

Every slot of the plan ends with exactly one finished trial whoever dies: a planned trial is written
with its slot, its first beat and, where the sampler plans ahead, its mixture in one commit, so that
a death leaves either nothing or a trial whose beat stands still. It is then failed by any other
worker, and its slot tried again with the same mixture. Clocks are never compared between machines.
"""

from climb_opt.workers.beats import Pace
from climb_opt.workers.claims import Claims, Work
from climb_opt.workers.durations import RungStatus
from climb_opt.workers.running import RunningStatus
from climb_opt.workers.status import RoundStatus, Status, status
from climb_opt.workers.worker import log_trial, work

__all__ = [
    "Claims",
    "Pace",
    "RoundStatus",
    "RungStatus",
    "RunningStatus",
    "Status",
    "Work",
    "log_trial",
    "status",
    "work",
]
