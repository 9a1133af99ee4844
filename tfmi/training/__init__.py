"""Training: the loop, its run folder, what makes a run resumable, optimizers."""
