import optuna
import optunahub

module = optunahub.load_module(package="samplers/climb")
space = module.MixtureSpace({"web": 0.7, "code": 0.2, "math": 0.1})


def objective(trial: optuna.Trial) -> float:
    mixture = space.suggest(trial)
    return (mixture["code"] - 0.4) ** 2 + (mixture["math"] - 0.3) ** 2


if __name__ == "__main__":
    study = optuna.create_study(sampler=module.ClimbSampler(space, rounds=(16, 8, 4), seed=0))
    study.optimize(objective, n_trials=28)
    print(study.best_params)
