"""Sample images that need no network: real ones as files, and computed ones. Nothing here imports napari."""
