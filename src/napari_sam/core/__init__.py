"""Values without input or output: geometry, tiles, rendering, prompts and masks. Needs numpy, scipy and scikit-image."""
