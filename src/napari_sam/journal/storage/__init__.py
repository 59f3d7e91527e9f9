"""How a journal is stored: an SQLite file with its entries, and the objects that they made."""
