"""Arms under one budget: a recipe, its runs, their statistics, tables and figures."""
