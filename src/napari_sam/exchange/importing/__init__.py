"""Read objects that other programs have labeled: COCO, GeoJSON, GeoPackage, ImageJ ROIs and label images."""
