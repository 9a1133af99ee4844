"""Signatures and export of user-tag models."""
