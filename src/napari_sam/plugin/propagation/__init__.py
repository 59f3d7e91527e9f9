"""Propagation: follow objects through the planes of a volume, and correct them plane by plane."""
