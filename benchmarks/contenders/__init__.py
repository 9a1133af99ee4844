"""Programs that each time one contender of ``training_speed.py`` in a process of its own, and print one JSON object."""
