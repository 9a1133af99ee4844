"""Backbones of rankers: how the fields of a candidate and a user interact."""
