"""Heuristic baselines: popularity, item-KNN and other models that count instead of learning."""
