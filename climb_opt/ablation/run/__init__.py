"""Running an ablation's arms, emulated or live."""
