"""The formats of image files, and the libraries that read them."""
