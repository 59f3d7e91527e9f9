"""Values without input or output: geometry, tiles, rendering, prompts and masks. No torch, zarr or napari."""
