"""What objects look like to a model, and which of them are like given ones."""
