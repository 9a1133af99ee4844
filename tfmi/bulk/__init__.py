"""Answers for many users at once, from an exported model."""
