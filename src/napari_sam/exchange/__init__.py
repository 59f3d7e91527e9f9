"""Read and write files of other programs: prompts, label images, and JSON."""
