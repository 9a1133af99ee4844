"""Nearest-neighbour indexes and, in the graph, merging K interests, exclusions and controllable diversity. The public names are in the
stub beside this file."""

from tfmi.core.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
