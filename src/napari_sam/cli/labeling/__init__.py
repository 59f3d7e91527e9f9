"""Commands that write label images."""
