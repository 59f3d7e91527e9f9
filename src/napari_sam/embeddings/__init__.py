"""Embeddings of tiles: encode them, cache them in memory, and store them on disk."""
