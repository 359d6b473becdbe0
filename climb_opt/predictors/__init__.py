"""weights -> expected score and its spread. One file per predictor; see `base.py`."""
