"""The influence of domains as numbers: stored, read, made into a mixture."""
