"""Weightings: how much each example counts."""
