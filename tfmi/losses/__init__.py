"""Objectives, weightings and regularizers, and the losses of tasks. The public names are in the stub beside this file."""

from tfmi.core.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
