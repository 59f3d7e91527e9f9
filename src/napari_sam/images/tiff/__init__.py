"""Read TIFF files: series, colors and OME-XML."""
