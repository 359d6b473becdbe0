"""How well mixbench's peers agree with their authors' own code, where that is installed.

    python tests/bench/bench_peers.py olmix --starts 10 interactions thresholds
    REGMIX_REPO=path/to/regmix python tests/bench/bench_peers.py regmix --runs 160 repetition

Both learn from the same random mixtures of 8 domains. Printed for each problem: the L1 distance of
what both recommend, its true regrets, what both claim of it, and the CPU seconds that theirs took.
"""

from __future__ import annotations

from harness import parser_of, timed  # first: one thread

# isort: split

import numpy as np

from climb_opt.mixbench import peers, problem, public
from climb_opt.mixbench.examine import measured


def main() -> None:
    """Print a line for each problem."""
    parser = parser_of(__doc__)
    parser.add_argument("peer", choices=["olmix", "regmix"])
    parser.add_argument("problems", nargs="+")
    parser.add_argument("--runs", type=int, default=56)
    parser.add_argument("--starts", type=int, default=public.STARTS, help="of Olmix's 300")
    args = parser.parse_args()
    olmix = args.peer == "olmix"
    theirs = public.olmix(starts=args.starts) if olmix else public.regmix()
    ours = peers.OLMIX if olmix else peers.REGMIX
    for method in (theirs, ours):
        if method.needs:
            raise SystemExit(method.needs)
    for name in args.problems:
        found = problem(name, domains=8)
        data = measured(found, found.design(0, args.runs), 0)
        pick, seconds = timed(lambda: theirs.pick(found, data, 0))  # noqa: B023
        picks = [pick, ours.pick(found, data, 0)]
        apart = np.abs(picks[0].weights - picks[1].weights).sum()
        true = found.regret(np.array([pick.weights for pick in picks]))
        claims = " and ".join(f"{pick.mean:.4f}" for pick in picks)
        print(
            f"{name}: L1 {apart:.1e}, regrets {true[0]:.4f} and {true[1]:.4f}, claimed {claims}, "
            f"{seconds:.0f} s"
        )


if __name__ == "__main__":
    main()
