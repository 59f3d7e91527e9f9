"""Arrays in, arrays out: geometry, tiles, rendering, prompts and masks, with numpy and scikit-image only."""
