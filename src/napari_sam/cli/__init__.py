"""The command `napari-sam`, one module for each of its commands."""

from napari_sam.cli.app import main as main
