"""Proposals: all objects of the view, a region or the plane, to be looked through and accepted."""
