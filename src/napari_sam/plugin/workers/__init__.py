"""Work outside the GUI thread, with progress."""
