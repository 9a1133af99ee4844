"""Losses of binary tasks: click and conversion, coarse labels."""
