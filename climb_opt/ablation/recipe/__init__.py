"""What an ablation compares: recipes, arms, and what they cost."""
