"""A Gaussian process on the roots of the weights, and what a search does with it.

    model.py        kernel, posterior mean, spread and joint covariance, and their gradients
    views.py        the same of logarithms of the weights, where the results ask for them
    fit.py          hyper-parameters by maximum penalised likelihood (penalties.py), also while
                    results come in
    beliefs.py      from a history, its bad tail made fit (outliers.py), to what is believed
    optimise.py     minimise a function of a mixture: w = v^2 / |v|^2, bounds included
    improvement.py  log expected improvement and feasibility, with gradients
    candidates.py   candidates: around the best, between them, and fresh ones
    proposal.py     the next mixture: expected improvement on joint posterior samples
    knowledge.py    the same under noise: what a measurement tells of the best
    hypervolume.py  the same for several objectives
    optima.py       which mixture to keep

Of rungs: ladder.py, ladder_fit.py, rungs.py. Of schedules: phased.py, schedule_sphere.py. Beside
them: mixed.py (several beliefs as one), tilted.py (known gains), uneven.py (noise that differs).

Plain numpy and scipy, because at these sizes it is quicker than a tensor library (a whole search of
112 evaluations takes 3 to 5 CPU seconds, and 127 with Optuna's BoTorchSampler, which finds a worse
mixture: docs/measured.md), and works in the base install.

Notation, in every file: n evaluated mixtures, K domains, `roots` = sqrt(weights), (n, K), points of
the unit sphere; values are minimised.
"""
