"""One trunk and its branches: mixtures scored without training each of them.

    recipe.py   the key `branches` of a study, and what it may hold
    groups.py   the branches of a corpus: one a domain, or one a group of small ones
    slots.py    their named slots in the plan, and those that check what is read off them
    trust.py    whether a read-out ranks mixtures as training does

A *trunk* is the beginning of the target's run, on the prior; a *branch* goes on from it for some
tokens, mostly of one domain. Averaging the branches' weights by a mixture (`merge`: DeMix, arXiv
2602.00747; MergeMix, 2601.17858) or their probabilities (`ensemble`: MDE, 2502.15950) is a rung: a
score at the cost of an evaluation.
"""
