"""The study so far -> the next mixture. One file per sampler."""
