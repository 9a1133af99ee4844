"""Protocols and metrics over the full catalogue."""
