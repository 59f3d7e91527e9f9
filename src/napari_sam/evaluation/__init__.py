"""Measure how well a model segments labeled images from simulated prompts."""
