"""How often does the check of a read-out of branches trust it, by how well it ranks in truth?

    python tests/bench/bench_check.py

Draws the scores of mixtures by a read-out and by training, with a stated correlation (of normal
scores; that of ranks is a little less), and asks what a search asks: a rank correlation of `ENOUGH`
at least, the lower end of its interval above `LOWEST`. Mixtures are what `branches.check` trains,
with the baselines.
"""

from __future__ import annotations

from harness import parser_of  # first: one thread

# isort: split

import numpy as np

from climb_opt.ladder.agreement import Agreement
from climb_opt.ladder.branches.trust import Verdict
from climb_opt.text import pipe_table

TRUE = (0.0, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98)


def trusted(count: int, true: float, draws: int) -> float:
    """The share of checks by `count` mixtures that trust a read-out."""
    rng = np.random.default_rng([count, round(100 * true)])
    held = 0
    for _ in range(draws):
        trained, other = rng.standard_normal((2, count))
        read = true * trained + np.sqrt(1 - true**2) * other
        held += Verdict("merge", Agreement.of(0, 1, np.stack([read, trained], axis=1))).holds
    return held / draws


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--mixtures", type=int, nargs="+", default=[6, 8, 10, 12, 16])
    options = parser.parse_args()
    rows = [
        [str(count), *(f"{100 * trusted(count, true, options.draws):.0f} %" for true in TRUE)]
        for count in options.mixtures
    ]
    print("\n".join(pipe_table(["mixtures", *(f"{true:g}" for true in TRUE)], rows)))


if __name__ == "__main__":
    main()
