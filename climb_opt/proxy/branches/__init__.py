"""A trunk, its branches, and what is read off them without training.

trainers.py   what trains a trunk and a branch of it
store.py      where they are kept: weights with their digest, and whether the disk holds them
merge.py      weights averaged by a mixture, streamed from disk
ensemble.py   probabilities averaged by a mixture; the best mixture is a convex problem
tree.py       all of it, for the objective
"""
