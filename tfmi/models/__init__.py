"""Towers, the ``tfrs.Model``s that put layers and losses together, and the named recipes."""
