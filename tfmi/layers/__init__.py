"""Keras layers, one idea per file, each naming its paper."""
