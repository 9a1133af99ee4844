"""Logs larger than memory: one pass into TFRecord shards, and training batches read from them."""
