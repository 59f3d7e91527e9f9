"""Weight files: the registry of models, downloads and local files. Imports no torch."""
