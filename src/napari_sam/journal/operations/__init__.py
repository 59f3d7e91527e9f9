"""What a journal does with its entries: commit, undo and redo them, and change parts of objects by them."""
