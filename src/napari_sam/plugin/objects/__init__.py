"""Accepted objects: journals, Labels layers, classes, and the list of objects."""
