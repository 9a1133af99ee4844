"""Extractors of one interest: the sequence and session models that papers compare with."""
