"""Towers of user-tag models: from a user's fields to one or several vectors."""
