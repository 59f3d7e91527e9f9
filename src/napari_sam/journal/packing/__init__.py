"""Pixels, whole numbers and many objects as text, packed by zlib."""
