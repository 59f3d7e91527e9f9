"""Check files before they are opened: their format, their parts, and files they refer to."""
