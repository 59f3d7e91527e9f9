"""Networks that are taught: what of them learns, and how."""
