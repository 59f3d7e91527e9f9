"""The parts of Segmenter that find objects: all of them, those like examples, and those that words name."""
