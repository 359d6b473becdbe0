"""A search as a study: create or join it, work on it, steer it.

    opening.py    recipe or name -> Optuna study; who may join
    asked.py      the recipe asked for: its score weighed, and the study's or refused
    corpora.py    its corpus on this machine: found, or built
    given.py      mixtures of named slots: baselines, and what checks read-outs of branches
    rescoring.py  mixtures priced anew off branches, without training
    tried.py      its sampler and pruner, made and tried before anything is trained
    working.py    a worker: the study's sampler, pruner and objective, and what each trial records
    steering.py   status, retry, enqueue, pause, resume

The recipe is stored in the study when it is created and is the truth from then on; a worker on
another machine needs the study's name and a copy of the corpus, nothing else.
"""

import optuna

from climb_opt.plan import plan_of
from climb_opt.simplex import MixtureSpace
from climb_opt.study.given import baselines
from climb_opt.study.opening import (
    awaits_corpus,
    check_corpus,
    corpus_here,
    corpus_of,
    discard_untried,
    load_corpus,
    open_study,
    read_recipe,
)
from climb_opt.study.steering import enqueue, pause, resume, retry, status
from climb_opt.study.tried import build_pruner, build_sampler
from climb_opt.study.working import (
    equal_score,
    make_objective,
    run_plan,
    with_proxies,
    work,
)
from climb_opt.view import StudyView

__all__ = [
    "awaits_corpus",
    "baselines",
    "build_pruner",
    "build_sampler",
    "check_corpus",
    "corpus_here",
    "corpus_of",
    "discard_untried",
    "enqueue",
    "equal_score",
    "load_corpus",
    "make_objective",
    "open_study",
    "pause",
    "plan_of",
    "read_recipe",
    "resume",
    "retry",
    "run_plan",
    "space_of",
    "status",
    "with_proxies",
    "work",
]


def space_of(study: optuna.Study) -> MixtureSpace:
    """The mixtures that a study searches."""
    return StudyView(study).space
