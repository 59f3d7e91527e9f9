"""Label arrays: write masks into arrays in memory and into pyramids on disk."""
