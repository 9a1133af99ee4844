"""Products of fields that rankers and user encoders share."""
