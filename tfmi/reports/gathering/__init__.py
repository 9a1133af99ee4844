"""What only data and model in memory can tell, as plain values for the run folder."""
