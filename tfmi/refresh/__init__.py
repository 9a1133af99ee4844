"""A trained model and newer data: another catalogue or index without training, and training that goes on where another run ended."""
