"""The kinds of model, each from configuration to published SavedModel; ``tfmi.kinds.base.ModelKind`` says what a kind is."""
