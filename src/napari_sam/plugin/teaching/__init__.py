"""Teaching in the window: which images a model learns from, the process that teaches it, and what came of it."""
