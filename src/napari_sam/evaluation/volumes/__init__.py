"""Evaluate objects in volumes: followed from one plane, and corrected in others."""
