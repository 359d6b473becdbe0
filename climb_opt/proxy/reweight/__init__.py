"""Methods that set the weights of domains while a proxy trains; see `base.py` for what one is."""
