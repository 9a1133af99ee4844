"""Which events teach, which are a known history, and which are to be predicted."""
