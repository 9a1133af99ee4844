"""Retrievers that are trained: interests, readout and objective in one model."""
