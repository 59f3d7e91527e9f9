"""Measuring a lesson: objects that are held back, all objects found alone, other images, and which weights to keep."""
