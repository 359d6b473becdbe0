"""What emulated arms search on where mixtures may change: a law of schedules.

    phased-law   {effect, throughout, domains, law, noise}

`throughout` searches mixtures that hold throughout, judged by the same schedules as the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from climb_opt.ablation.run.surfaces import Surface, measured
from climb_opt.emulator import PhasedLaw


def phased_law(
    effect: float = 1.0,
    throughout: bool = False,
    domains: int = 21,
    law: int = 0,
    noise: float = 0.0,
) -> Surface:
    """A mixing law of two phases whose domains are worth more late in a run, or early."""
    judged: Any = PhasedLaw(effect=effect, domains=domains, seed=law)  # a `Source`, but for mypy
    if throughout:
        return measured(judged.plain, judged, judged.space.constant, noise, components=False)
    return measured(judged, judged, np.asarray, noise, components=False)
