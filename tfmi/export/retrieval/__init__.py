"""Signatures and export of retrievers and of two stages."""
