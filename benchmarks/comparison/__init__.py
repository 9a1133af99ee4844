"""The parts of ``benchmarks/compare_systems.py``."""
