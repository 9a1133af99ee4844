"""Extractors of several interests, one paper's idea a file."""
