"""Protocols of models that find objects by words or by examples. Need no torch."""
