"""Prompts that the user draws: layers, gestures, keys and history."""
