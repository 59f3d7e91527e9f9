"""Read rasters with GDAL, and georeferences."""
