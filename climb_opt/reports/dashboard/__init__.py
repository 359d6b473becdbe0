"""What workers leave on optuna-dashboard."""
