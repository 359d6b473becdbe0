"""What a search would cost and find, before anything is trained.

costs.py        each rung's FLOPs, tokens and hours; the whole plan; what a budget buys
measured.py     noise and rank correlations: given, measured by a study, or assumed
regret.py       expected regret against budget, with the ladder and without, from emulation
advice.py       the same in words: a table, and one line
plan_search.py  all of it, as data and as text
"""
