"""Graphs of items, within a session and across all of them."""
