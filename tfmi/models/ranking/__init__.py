"""Rankers of what was retrieved."""
