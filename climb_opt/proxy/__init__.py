"""weights -> a trained proxy: exact mixture index, trainer, persistent group."""
