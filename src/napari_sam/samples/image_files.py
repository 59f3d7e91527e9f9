"""The real images among the samples. `data/README.md` tells where each is from and under which license."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parent / "data"
ABDOMEN_CT = DATA / "upper_abdomen_ct.ome.tif"
LANDSAT = DATA / "itaipu_landsat8.tif"
# The size of its pixels is in the geographic tags of the GeoTIFF, which are read only where rasterio is installed.
LANDSAT_PIXEL_M = 30.0
