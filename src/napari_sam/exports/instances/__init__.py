"""Objects as annotations of computer vision: run lengths with categories and scores."""
