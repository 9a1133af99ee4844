"""Objectives: which items a target is compared with."""
