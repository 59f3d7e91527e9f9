"""Search for objects by words or by exemplars, tile by tile, each object of a plane once."""
