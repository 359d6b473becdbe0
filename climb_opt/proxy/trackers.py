"""Trackers that training curves go to, as Accelerate has them; each is asked for once a trial.

An entry takes the study's name, the trial's and the study's folder of runs, and returns something
with `start()`, `store_init_configuration(values)`, `log(values, step)` and `finish()`: an
`accelerate.tracking.GeneralTracker`, or your own. A short name is its package's, too.
"""

from __future__ import annotations

from pathlib import Path

from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, WandBTracker


def tensorboard(study: str, trial: str, folder: Path) -> GeneralTracker:
    """Event files beside the checkpoints of a study: `tensorboard --logdir runs`."""
    return TensorBoardTracker(trial, folder / "curves")


def wandb(study: str, trial: str, folder: Path) -> GeneralTracker:
    """Weights & Biases: a project a study; as `wandb login` and WANDB_* say."""
    return WandBTracker(study, name=trial, dir=str(folder))


def mlflow(study: str, trial: str, folder: Path) -> GeneralTracker:
    """MLflow: an experiment a study; where MLFLOW_TRACKING_URI says."""
    return MLflowTracker(study, run_name=trial)
