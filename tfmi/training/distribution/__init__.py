"""Training on several devices or processes: TensorFlow's strategies, behind the same loop as training in one process."""
