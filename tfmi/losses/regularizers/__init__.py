"""Regularisers: how interests should behave."""
