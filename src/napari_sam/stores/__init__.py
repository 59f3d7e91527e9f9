"""What is kept: embeddings of tiles, and the labels that masks are written into."""
