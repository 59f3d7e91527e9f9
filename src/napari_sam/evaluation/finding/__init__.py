"""Measure how well objects are found that are like one example."""
