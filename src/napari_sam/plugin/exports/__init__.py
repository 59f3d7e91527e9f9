"""Export from the window: the writer that napari calls, and the exports of a session."""
