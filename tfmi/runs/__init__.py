"""A training run from configuration to published SavedModel: loop, run folder, resuming, plots."""
