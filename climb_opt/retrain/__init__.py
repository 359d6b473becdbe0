"""Given mixtures trained again: is the gain real, does it carry over?

`confirm` retrains what the search recommends, and the baselines, with fresh seeds: an ordinary
study `<name>-confirm` on the same storage, with one named slot per mixture and seed
("found/seed-1"), worked on by the same worker loop: several workers can help, and it resumes. All
mixtures share each seed, so that differences are paired.

    sibling.py   mixtures and seeds as slots of a study beside a study
    confirm.py   `climb_opt.confirm`: choosing, creating, retraining, comparing
    finals.py    what is confirmed, stored in the confirm study
    race.py      which slots to run now, and running them
    paired.py    scores of common seeds, compared pairwise
    repeats.py   mixtures run again and again
    noise.py     `climb_opt.noise`: how much of a score is chance, and the weights against it
    transfer.py  the ranking of mixtures at another proxy size
"""

from climb_opt.retrain.finals import Finals, choose, open_confirmation, read_finals
from climb_opt.retrain.race import confirmation_of, longest_plan, run, wanted

__all__ = [
    "Finals",
    "choose",
    "confirmation_of",
    "longest_plan",
    "open_confirmation",
    "read_finals",
    "run",
    "wanted",
]
