"""Readouts: from K interests to the query or queries that a target is scored with."""
