"""Read zarr arrays and OME-Zarr images."""
