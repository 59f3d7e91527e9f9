"""Arrays that are read only when they are indexed."""
