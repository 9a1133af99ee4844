"""Profiles of users by tags."""
