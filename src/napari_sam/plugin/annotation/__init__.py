"""Annotate: from prompts to accepted objects."""
