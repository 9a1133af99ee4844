"""The parts of a page, each from the values of a run."""
