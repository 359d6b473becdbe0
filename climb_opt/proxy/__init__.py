"""weights -> a trained proxy: the exact mixture index, the trainer, the persistent group."""
