"""Many models at once: mapping, programs, groups, seeds, memory, timing."""

from jaxinv.ensemble.sweep import Ensemble, train

__all__ = ["Ensemble", "train"]
