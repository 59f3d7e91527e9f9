"""Create and update napari layers, and convert between layers and images."""
