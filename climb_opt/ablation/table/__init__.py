"""From results to one table with intervals."""
