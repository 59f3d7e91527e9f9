"""Propose the objects of one tile: by the dense guesses of a model, or by a grid of points."""
