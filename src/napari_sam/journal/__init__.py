"""The journal: a record of every operation on the objects of an image, with undo."""
