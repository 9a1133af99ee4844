"""Objectives (what a retrieved item should score) and regularisers (how interests should behave), one idea per file."""
