import numpy as np
import optuna
import optunahub

mixbench = optunahub.load_module(package="benchmarks/mixbench")
problem = mixbench.problem("repetition", domains=6, noise=0.1)


def mine(problem, data, seed):  # data.weights (n, K), data.scores (n,); lower is better
    best = np.argsort(data.scores)[:4]
    return data.weights[best].mean(axis=0)


if __name__ == "__main__":
    study = optuna.create_study(sampler=problem.random(seed=0))
    study.optimize(problem, n_trials=16)
    print(sorted(study.best_params))

    methods = {"mine": mixbench.Method(recommend=mine), "random": mixbench.Method()}
    for name, method in methods.items():
        outcomes = [mixbench.run(method, problem, seed=seed, trials=32) for seed in range(3)]
        print(name, [round(outcome.regret, 2) for outcome in outcomes])
