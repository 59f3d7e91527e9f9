"""Label images, with the pixels of the objects."""
