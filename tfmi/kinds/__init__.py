"""The kinds of model, each from configuration to published SavedModel."""
