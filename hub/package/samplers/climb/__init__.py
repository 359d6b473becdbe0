from climb_opt import ClimbSampler, MixtureSpace

__all__ = ["ClimbSampler", "MixtureSpace"]
