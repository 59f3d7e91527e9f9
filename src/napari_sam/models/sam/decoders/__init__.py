"""Decode prompts on one tile: the mathematics of `MaskDecoder` at a fraction of its work."""
