"""What an earlier version recommends and promises, on the searches of `bench_coverage.py`.

    git worktree add ../earlier b7dd3d9
    python tests/bench/bench_earlier.py ../earlier --searches searches --output earlier.jsonl
    python tests/bench/bench_coverage.py ... --against earlier.jsonl

Each search in the folder is judged by the earlier version's rule after 28, 56 and 112 trials; those
of SimplexGPSampler are searched anew by its own sampler, with the same noise. Two versions cannot
be imported together, so the earlier one is asked through a pipe: this file, run as a child with the
checkout on its path, where it needs `SimplexGPSampler`, `MixtureSpace` and `best_mixture` alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

Row = dict[str, Any]


# --- the earlier version: answers on standard output, a line of JSON for each on standard input --


def serve() -> None:
    import optuna

    from climb_opt import MixtureSpace, SimplexGPSampler, best_mixture

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore")
    share, study, trial = optuna.distributions.FloatDistribution(0.0, 1.0), None, None
    space = MixtureSpace(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        asked = json.loads(line)
        if "seed" in asked:
            study = optuna.create_study(sampler=SimplexGPSampler(space, seed=asked["seed"]))
        elif "value" in asked:
            study.tell(trial, asked["value"])
        elif "trials" not in asked:
            trial = study.ask()
            space.suggest(trial)
            print(json.dumps({"params": trial.params}), flush=True)
        else:
            seen = optuna.create_study()
            for row in asked["trials"]:
                of = dict.fromkeys(row["params"], share)
                seen.add_trial(optuna.trial.create_trial(distributions=of, **row))
            pick = best_mixture(seen, space=space)
            stated = {"score": pick.predicted, "gain": pick.gain}
            found = {k: e and [e.mean, e.low, e.high] for k, e in stated.items()}
            print(json.dumps({"mixture": dict(pick), **found}), flush=True)


class Earlier:
    """The other end of the pipe."""

    def __init__(self, checkout: Path, prior: dict[str, float]) -> None:
        paths = {**os.environ, "PYTHONPATH": str(checkout)}
        command = [sys.executable, str(Path(__file__).resolve()), "--serve"]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=paths
        )
        self.say(prior)

    def say(self, asked: Any) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(asked) + "\n")
        self._child.stdin.flush()

    def ask(self, asked: Any) -> Row:
        self.say(asked)
        assert self._child.stdout is not None
        answer: Row = json.loads(self._child.stdout.readline())
        return answer

    def close(self) -> None:
        self._child.communicate()


# --- this version: the truth, and what is judged by it -------------------------------------------


def main() -> None:
    from harness import append, load, parser_of  # first: one thread

    # isort: split

    import numpy as np
    import optuna

    import bench_search
    from bench_coverage import KEY, PREFIXES, objective_of
    from climb_opt.ablation.run.promises import held
    from climb_opt.selection import Estimate

    def searched(earlier: Earlier, objective: Any, seed: int, count: int) -> list[Row]:
        """The trials of the earlier version's own search."""
        earlier.say({"seed": seed})
        trials = []
        for number in range(count):
            params = earlier.ask({})["params"]
            value = objective(optuna.trial.FixedTrial(params, number))
            earlier.say({"value": value})
            trials.append({"params": params, "value": value})
        return trials

    parser = parser_of(__doc__, "output", "tables", "cache")
    parser.add_argument("checkout", type=Path, help="of the earlier version")
    parser.add_argument("--searches", type=Path, required=True, help="of bench_coverage.py")
    options = parser.parse_args()
    rows = load(options.output, KEY)
    for file in sorted(options.searches.glob("*.json")):
        name, sampler, given, number, _ = file.stem.rsplit("-", 4)
        noise, seed = float(given), int(number)
        if all((name, sampler, noise, seed, n) in rows for n in PREFIXES):
            continue
        source = bench_search.source(name, options.tables, options.cache)
        space, (best, typical) = source.space, bench_search.yardstick(source)
        earlier, unit = Earlier(options.checkout, space.mixture(space.prior)), typical - best
        kept = json.loads(file.read_text())["trials"]
        trials = [{"params": t["params"], "value": t["value"]} for t in kept]
        if sampler == "gp":
            trials = searched(earlier, objective_of(name, source, noise, seed), seed, len(trials))
        for n in PREFIXES:
            pick = earlier.ask({"trials": trials[:n]})
            both = np.stack([space.weights(pick["mixture"]), space.project(space.prior)])
            true, prior = source.score(both)
            row = {"source": name, "sampler": sampler, "noise": noise, "seed": seed, "n": n}
            row["regret"] = (true - best) / unit
            for what, value in (("score", true), ("gain", prior - true)):
                judged = held(Estimate(*pick[what]), float(value), unit)
                row |= {f"{what} {figure}": found for figure, found in judged.items()}
            append(options.output, row)
        earlier.close()
        print(f"{file.stem}: judged", flush=True)


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main()
