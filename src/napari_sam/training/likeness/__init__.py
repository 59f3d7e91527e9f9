"""Fit what tells like from unlike objects."""
