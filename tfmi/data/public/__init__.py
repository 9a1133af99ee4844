"""Readers of public data sets in their original formats."""
