"""Label images as zarr on disk: chunks, levels and metadata."""
