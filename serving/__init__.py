"""Serving an exported model: a local server for development and tests, a client, and what TensorFlow Serving needs."""
