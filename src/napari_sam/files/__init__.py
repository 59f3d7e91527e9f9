"""Paths, locks, temporary files and outputs that are written completely or not at all."""
