"""Run the command as `python -m napari_sam.cli`."""

from napari_sam.cli.app import main

if __name__ == "__main__":
    main()
