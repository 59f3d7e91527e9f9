"""The panels of the tasks, of which the dock shows one at a time."""
