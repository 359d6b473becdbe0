"""A trained proxy -> scores. One file per evaluator; see `base.py`."""
