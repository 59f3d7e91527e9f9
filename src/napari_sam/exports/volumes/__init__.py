"""Volumes with their place in the body or on the stage."""
