"""Axes of images: names, letters, units and calibration."""
