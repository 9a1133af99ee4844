"""Attention over a session's clicks."""
