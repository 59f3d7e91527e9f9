"""Tables of objects, and what is measured for them."""
