"""The view: displayed image, contrast, world coordinates and canvas."""
