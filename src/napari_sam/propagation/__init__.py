"""Propagation: follow objects from the planes where they were accepted through the other planes of a volume."""
