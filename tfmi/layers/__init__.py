"""Keras layers, one idea per file, each naming its paper. The public names are in the stub beside this file, ``__init__.pyi``."""

from tfmi.core.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
