"""Pixels in: one module for each kind of file, and what all of them return."""
