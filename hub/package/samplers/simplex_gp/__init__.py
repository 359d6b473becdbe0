from climb_opt import MixtureSpace, SimplexGPSampler

__all__ = ["MixtureSpace", "SimplexGPSampler"]
