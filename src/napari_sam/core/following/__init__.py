"""What follows objects from plane to plane needs of a model."""
