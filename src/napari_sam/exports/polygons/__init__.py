"""Outlines of objects as polygons, and the files that hold them."""
