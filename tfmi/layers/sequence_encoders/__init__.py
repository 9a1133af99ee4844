"""Causal encoders of a history: one state per position."""
