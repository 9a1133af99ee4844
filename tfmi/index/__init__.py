"""Nearest-neighbour indexes and, in the graph, merging K interests, exclusions and controllable diversity."""
